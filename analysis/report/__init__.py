"""The report page. Command: `python -m analysis.report RUN_OR_TABLE`.

Reading order: `build` (all of it), `section` (one surface), `summary_tables`, `evidence`, `render`.
"""
