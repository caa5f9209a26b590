"""A grid as a list of trials: no torch, no Ray, no network.

Reading order: `trials` (keys and parents), `order` (coarse cells first), `evaluations`, `bundles`
(trials that share a pass), `memory`, `disk`. Its hours and money are `sweep.price`.
"""
