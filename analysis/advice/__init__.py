"""What follows from the fits: recommendations, claims, comparisons, the next grid.

Reading order: `recommend`, `claims`, `task_mix`, `type_rates`, `next_grid`, `confounds`,
`score_difference`, `compare_scores`, `compare_runs`, `compare_paper`, `without_contaminated`.
"""
