"""What the sweep wrote about a run -> rows of the one schema.

Reading order: `training_log` (a trial's curve), `score_record` (one score), `run_folder` (all
records of a run), `score_files` (its scores), `one_column` (which scores are comparable),
`run_table` (the table of a run, and the items behind its scores), `plan_file` (the trials that were
planned), `screening` (short runs left out), `decided` (what `decide` chose, and why it stopped).
"""
