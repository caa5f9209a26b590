"""What the terminal shows.

Reading order: `plan` and `memory` (before a run), `progress` with its `maps` (while it runs, and
`sweep.status`), `answer` (the end: the first screen of the report).
"""
