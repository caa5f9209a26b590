"""Which trial runs next, and which model of a stage is chosen and kept.

Reading order: `queue`, `search` (Optuna), `selection` (the parent of a chained stage), `retention`.
"""
