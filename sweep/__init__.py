"""Plan and run a sweep: grid file in, run folder out.

Reading order: `run` (the command, with `options`), `drive` and `orchestrate` (a run from plan to
report), `extend` (its further rounds); `gridfile`, `resolve`, `plan`, `price`, `schedule`,
`execution`, `storage`; then `terminal`, `page`, and the commands beside them: `status`, `new` (with
`grid_size` and `grid_template`), `doctor`, `audit`, `export`, `tracking`.
"""
