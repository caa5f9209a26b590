"""Everything that touches weights: weights in, weights and scores out.

Importing the package, `specs` or `tasks.benchmarks` loads neither torch nor lm-eval, so that plans
are quick.
"""
