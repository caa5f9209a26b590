"""The page of a run while it runs: `RUN/report/index.html`, until the report takes its place.

Reading order: `live` (the thread beside the driver that writes it), `view`, `state` (what it shows,
as plain data), `curves`, `surfaces` (its contours); `serve` (over HTTP, localhost), `browser`.
"""
