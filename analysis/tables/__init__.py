"""Any table of results as one long table: a run folder, a foreign file, a published one.

Reading order: `schema`, `run_folder`, `external`, `published`, `load`, `source`.
"""
