"""What follows from the fits of a grid: answers, and the next grid.

Reading order: `advise` (a grid with its fits and answers), `answers` (the seven answers of a grid),
`type_rates`, `setting`, `contrast`, `published_rules`; then `next_grid`, `confounds`,
`without_contaminated`.
"""
