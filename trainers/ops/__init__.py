"""Arithmetic on batches and tensors, shared by training and evaluation.

Reading order: `batching` (the only batch arithmetic), `forward_pass`, `packed_attention`,
`half_weights`, `chunked_loss`, `memory`, `likelihood`, `pairs`, `dpo_loss`, `reference`, `judge`.
"""
