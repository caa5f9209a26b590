"""The run folder, whose records are the only truth about a run, and its copy in an object store.

Reading order: `run_folder`, `manifest`, `events`, `trial_log`; then `object_store`, `mirror`,
`remote_lock`.
"""
