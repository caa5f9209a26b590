"""The run folder, whose records are the only truth about a run, and its copy in an object store.

Reading order: `run_folder`, `trial_folder`, `durations`, `driver_lock`, `manifest`, `events`, `trial_log`,
`run_log`, `status_reader` with `ranking`; then `object_store`, `mirror` with `mirror_files`,
`remote_lock`.
"""
