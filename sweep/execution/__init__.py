"""Trials, where they run, and what is done when they do not.

Reading order: `job`, `trial` with `scoring`; `backends`, then `local` or `ray_cluster` (with
`ray_local`, `ray_cleanup`) and `ray_tune`. A trial that hangs is ended by `watchdog` from inside
and by `supervisor` with `processes` from outside; `retries` decides whether and where it is tried
again, `preemption` has it save a checkpoint before its machine goes. Where nodes share no folder:
`remote_run`, `remote_trial`. Before anything starts: `preflight`, `prepare_data`, `calibrate`.
"""
