"""Trackers (W&B, TensorBoard) that follow the records of a run folder.

Command: `python -m sweep.tracking`. Reading order: `trackers` (one class per service), `followed`
(one trial), `follow`, `trackio_run`; `notify` writes to people.
"""
