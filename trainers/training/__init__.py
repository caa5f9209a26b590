"""One training by one of TRL's trainers, with exact effective batches.

Reading order: `loop` (all of it), `exact_batches`, `callbacks`, `compiled`, `compat_accelerate`.
"""
