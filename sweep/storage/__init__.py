"""The run folder, whose records are the only truth about a run; `remote` has its copy in an object
store, `status` reads from it how the run stands.

Reading order: `run_folder`, `trial_folder`, `durations`, `driver_lock` with `driver_signs`,
`manifest`, `events`, `trial_log`, `run_log`, `ranking`, `leftovers`.
"""
