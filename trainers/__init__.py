"""Everything that touches weights: weights in, weights and scores out.

Importing the package, `spec` or `benchmarks` loads neither torch nor lm-eval, so that plans are
quick.
"""
