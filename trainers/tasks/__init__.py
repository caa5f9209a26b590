"""What a benchmark is: names, items, metrics, the task files of lm-eval.

What is read at plan time (`registry`, `benchmarks`, `metrics`, `required`, `task_files`,
`task_groups`, `task_index`, `own_files`, `item_counts`) loads neither torch nor lm-eval. Reading
order: `registry`, `benchmarks`, `metrics`, `required`, `tasks`; `task_files`, `task_groups`,
`task_index`, `own_files`; `items` and `item_sources` for the audit, the latter for `item_counts`
too; `compat_lm_eval`.
"""
