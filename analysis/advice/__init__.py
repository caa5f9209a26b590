"""What follows from the fits: recommendations, claims, comparisons, the next grid.

Reading order: `recommend`, `claims`, `task_mix`, `next_grid`, `confounds`, `compare_runs`,
`compare_paper`, `without_contaminated`.
"""
