"""Arithmetic on batches and tensors, shared by training and evaluation.

Reading order: `batching` (the only batch arithmetic), `packed_attention`, `half_weights`,
`chunked_loss`, `out_of_memory`, `likelihood`, `pairs`, `dpo_loss`, `reference`, `judge`, `memory`.
"""
