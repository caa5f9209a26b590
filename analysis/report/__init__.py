"""The report page. Command: `python -m analysis.report RUN_OR_TABLE`.

Reading order: `__main__`, `build` (all of it), `section` (one grid), `overview` (what was run),
`words` (sentences), `axis_section` (a third axis), `records` (recommendations.json), `evidence`,
`summary_tables`, `training`, `contaminated`, `render` with `templates/`, `terminal` (the answer
again, in a terminal).
"""
