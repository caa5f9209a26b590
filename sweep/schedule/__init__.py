"""Which trial runs next, and which model of a stage is chosen and kept.

Reading order: `progress` (what is done), `queue`, `search` (Optuna), `selection` (the parent of a
chained stage), `retention`.
"""
