"""Which trial runs next, and which model of a stage is chosen and kept.

Reading order: `progress` (what is done), `queue`, `pool` (cells that are chosen as results come
in), `search` and `search_queue` (Optuna chooses), `decide` (the answers choose), `pools`;
`reference_passes`; `selection` (the parent of a chained stage), `retention`.
"""
