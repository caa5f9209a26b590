"""What follows from the fits of a grid: answers, and the next grid.

Reading order: `advise` (a grid with its fits and answers), `answers` (the seven answers of a grid),
`type_rates`, `setting`, `contrast`, `published_rules` with `rule_odds`; then `next_grid` with
`measured_grid`, `new_values`, `product_axes` and `grid_file`; `confounds`, `without_contaminated`.
"""
