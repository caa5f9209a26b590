"""Draws of a score over learning rate and batch size, given the cells.

Reading order: `cells`, `seed_noise`, `peak`, `likelihood`, `smc`, `condition` (one surface's cells
to its draws).
"""
