"""What follows from the fits: answers, recommendations, comparisons, the next grid.

Reading order: `answers` (the seven answers of a grid), `setting`, `contrast`, `published_rules`,
`type_rates`; then `recommend`, `claims`, `task_mix`, `next_grid`, `confounds`, `score_difference`,
`compare_scores`, `compare_runs`, `compare_paper`, `without_contaminated`.
"""
