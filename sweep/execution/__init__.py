"""How one trial runs, in this process or on Ray.

Reading order: `trial` (one trial from start to end; knows no Ray), `backends` (where trials run),
`local`, then `ray_cluster`, `ray_tune` and `ray_cleanup`. Where nodes share no folder:
`remote_trial` (a worker) and `remote_run` (the driver).
"""
