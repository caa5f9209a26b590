"""Scores of a model: lm-eval benchmarks, held-out loss, pair accuracy, held-out reward.

Command: `python -m trainers.evaluate`. What is read at plan time (`registry`, `benchmarks`,
`metrics`, `task_files`, `task_groups`, `task_index`) loads neither torch nor lm-eval.
Reading order: `registry`, `benchmarks`, `metrics`, `tasks`, `harness`, `harness_results`, `scores`;
then one file per other score, and `items` for the audit.
"""
