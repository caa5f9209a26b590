"""Which trial runs next, and which model of a stage is chosen and kept.

Reading order: `progress` (what is done), `queue`, `pools` (cells that are chosen as results come
in); `reference_passes`; `selection` (the parent of a chained stage), `retention`; `allowance` and
`spending` (what may still begin).
"""
