"""Draws of a score over learning rate and batch size, given the cells.

Reading order: `cells`, `seed_noise`, `item_noise`, `peak`, `likelihood`, `smc`, `importance`,
`condition` (one surface's cells to its draws).
"""
