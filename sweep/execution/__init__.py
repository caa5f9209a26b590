"""How one trial runs, in this process or on Ray.

Reading order: `job` (what a trial needs in any process), `trial` (from start to end; knows no Ray),
`prepare_data`, `preflight`, `backends` (where trials run), `local`, then `ray_cluster`, `ray_tune`
and `ray_cleanup`. Where nodes share no folder: `remote_trial` (a worker) and `remote_run` (the
driver). `calibrate` times a few steps and items.
"""
