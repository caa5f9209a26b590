"""One grid beside another: two runs, a run and the paper, the values of a third axis.

Reading order: `source` (where the other grid comes from), `score_difference`, `asked`,
`compare_scores`, `compare_runs`, `compare_paper` with `paper_text`; then `axis_places`,
`setting_axes`.
"""
