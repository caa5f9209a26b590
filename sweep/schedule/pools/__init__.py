"""Cells that are chosen as results come in: `pool` and its queue; `search` and `search_queue`
(Optuna chooses), `decide` with its `prior` and `screening` (the answers choose); `of_grid` says
which."""
