"""Where trials run: in this process, or on Ray.

Reading order: `runner`, which chooses; `local`; `ray_cluster` (with `ray_access`, `ray_local`,
`raylet_watch`, `ray_cleanup`), `ray_tune` with `ray_queue`, `ray_nodes` with `ray_tasks`,
`ray_metrics`. What is taken from Ray's inside is in `compat_ray`.
"""
