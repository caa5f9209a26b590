"""Where trials run: in this process, or on Ray.

Reading order: `runner`, which chooses; `local`; `ray_cluster` (with `ray_local`, `raylet_watch`,
`ray_cleanup`), `ray_tune`, `ray_nodes`, `ray_metrics`. What is taken from Ray's inside is in
`compat_ray`.
"""
