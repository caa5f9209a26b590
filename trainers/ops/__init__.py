"""Arithmetic on batches and tensors, shared by training and evaluation.

Reading order: `batching` (the only batch arithmetic), `packed_attention`, `chunked_loss`,
`likelihood`, `pairs`, `dpo_loss`, `reference`, `judge`, `memory`.
"""
