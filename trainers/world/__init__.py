"""A miniature world: text to pretrain on, conversations to tune on and four held-out benchmarks.

Reading order: `facts`, `generate`, `tasks`.
"""
