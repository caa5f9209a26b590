"""Everything that touches weights: weights in, weights and scores out.

Importing the package, `specs` or `tasks.benchmarks` loads neither torch nor lm-eval, so that plans
are quick.

Reading order: `specs`, `dispatch` (a kind of stage to what trains it), `stages`, `training`,
`steps`, `lanes`, `ops`; `data`, `models`, `rewards`, `world`; `tasks`, `inference`, `evaluate`;
`processes`. Beside them `files`, `hub` with `hub_errors` and `compat_hub`, `cli` (exit codes).
"""
