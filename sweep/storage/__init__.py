"""The run folder, whose records are the only truth about a run; `remote` has its copy in an object
store.

Reading order: `run_folder`, `trial_folder`, `durations`, `driver_lock` with `driver_signs`,
`manifest`, `events`, `trial_log`, `run_log`, `status_reader` with `ranking` and `best_so_far`.
"""
