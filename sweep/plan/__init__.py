"""A grid as a list of trials: no torch, no Ray, no network.

Reading order: `trials` (keys and parents), `order` (coarse cells first), `evaluations`, `cost`,
`disk`.
"""
