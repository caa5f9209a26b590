"""Scores over learning rate and batch size, fitted with their uncertainty.

Reading order: `cells`, `seed_noise`, `flatness`, `peak`, `likelihood`, `smc`, `posterior`,
`curves` (draws along the learning rate, from which all answers are read), `rates`, `ratio`,
`exponent`, `batch`; then the two-dimensional optimum: `quadratic`, `optimum`, `surface` (all of
it), `model_comparison`.
"""
