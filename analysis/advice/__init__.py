"""What follows from the fits: answers, comparisons, the next grid.

Reading order: `advise` (a grid with its fits and answers), `answers` (the seven answers of a grid),
`type_rates`, `setting`, `contrast`, `published_rules`; then `next_grid`, `confounds`,
`axis_places`, `setting_axes`, `score_difference`, `compare_scores`, `compare_runs`,
`compare_paper`, `without_contaminated`.
"""
