"""A grid as a list of trials: no torch, no Ray, no network.

Reading order: `trials` (keys and parents), `order` (coarse cells first), `evaluations`, `bundles`
(trials that share a pass), `memory`, `disk`. What it takes is told by `sweep.price`.
"""
