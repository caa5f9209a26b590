"""Verifiable rewards for RLVR: GSM8K, MATH, IFEval's constraints.

Reading order: `graders`, `math`, `ifeval`, `own_function`.
"""
