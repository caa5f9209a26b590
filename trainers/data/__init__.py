"""Rows to tokens with labels: prepared once, every row accounted for.

Nothing here loads torch. Reading order: `rows` (read as they are stored), `forms` (a row to text),
`examples`, `prepare`, `prepare_process`, `row_counts`.
"""
