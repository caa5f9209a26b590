"""What the draws of one surface say.

Reading order: `measured`, `flatness`, `divergence`; `curves` (draws along the learning rate, from
which all answers are read), `rates`, `ratio`, `exponent`, `batch`; then the two-dimensional
optimum: `quadratic`, `optimum`, `surface` (all of it), `model_comparison`; `unit` (how differences
of a score are written).
"""
