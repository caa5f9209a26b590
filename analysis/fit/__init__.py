"""Scores over learning rate and batch size, fitted with their uncertainty.

Reading order: `cells`, `seed_noise`, `flatness`, `quadratic`, `peak`, `smc`, `posterior`,
`optimum`, `surface` (all of it), `model_comparison`.
"""
