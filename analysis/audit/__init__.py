"""Contamination and language shares of training data: the arithmetic and the tables.

Reading order: `contamination` with `passages`, `languages`, `tables`, `published`.
"""
