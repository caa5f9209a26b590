"""Plan and run a sweep: grid file in, run folder out.

Reading order: `run` and `orchestrate` (the command), `gridfile`, `plan`, `price`, `schedule`,
`execution`, `storage`; then `terminal`, `page` and the commands beside them.
"""
