"""The report page. Command: `python -m analysis.report RUN_OR_TABLE`.

Reading order: `__main__`, `build` (all of it), `overview` (what was run), `words` (sentences),
`answered` (what is said of one grid), `page` (what the templates show), `section` (one grid on it),
`axis_section` (a third axis), `evidence`, `summary_tables`, `contaminated`, `run_facts` (the run as
a whole), `recommendations` (recommendations.json), `render` with `templates/`, `terminal` (the
answer again, in a terminal).
"""
