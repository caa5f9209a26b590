"""What follows from the fits: answers, recommendations, claims, comparisons, the next grid.

Reading order: `answers` (the seven answers of a grid), `setting`, `contrast`, `published_rules`;
then `recommend`, `claims`, `task_mix`, `next_grid`, `confounds`, `compare_runs`, `compare_paper`,
`without_contaminated`.
"""
