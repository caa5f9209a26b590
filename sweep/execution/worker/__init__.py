"""What runs in the process of a trial.

Reading order: `trial` with `training` and `scoring`, `watchdog`, which ends a trial that hangs, and
`remote_trial` where nodes share no folder.
"""
