"""Trials, where they run, and what is done when they do not.

Reading order: `job`; `worker`, which is what runs in a trial's process; `backends`, which says
which process that is. A trial that hangs is ended from outside by `supervisor` with `processes`;
`handout` says what runs next and what follows from its end, `failures` what is said of one that
failed; `retries` decides whether and where it is tried again, `preemption` and `stop_request` have
it save a checkpoint before its machine goes. Where nodes share no folder: `remote_run`,
`remote_driver`. Before anything starts: `preflight`, `prepare_data`, `calibration`.
"""
