"""The report page. Command: `python -m analysis.report RUN_OR_TABLE`.

Reading order: `__main__`, `build` (all of it), `section` (one grid), `overview` (what was run),
`sentences` and `setting_sentences` (the seven answers in words), `axis_section` with
`axis_sentences` (a third axis), `records` (recommendations.json), `evidence`, `summary_tables`,
`training`, `contaminated`, `render` with `templates/`, `terminal` (the answer again, in a
terminal).
"""
