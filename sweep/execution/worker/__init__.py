"""What runs in the process of a trial.

Reading order: `trial` with `training` and `scoring`, `bundle` (several trials in one pass),
`watchdog`, which ends a trial that hangs, `hub_files`, and `other_nodes` of a trial that lies on
several; `remote_trial` (with `remote_inputs`, and `remote_reader` on a further node) where nodes
share no folder.
"""
