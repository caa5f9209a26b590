"""What the terminal shows.

Reading order: `plan` with `sums` and `memory` (before a run), `progress` with its `maps` and
`words` (while it runs, and `sweep.status`), `answer` (the end: the first screen of the report);
`quantities` writes numbers.
"""
