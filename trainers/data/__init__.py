"""Rows to tokens with labels: prepared once, every row accounted for.

Nothing here loads torch. Reading order: `sources` (rows), `layouts`, `tokenize`, `prepare`,
`prepare_process`, `row_counts`; `preference_pairs` and `rlvr_prompts` for those kinds.
"""
