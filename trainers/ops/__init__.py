"""Arithmetic on batches and tensors, shared by training and evaluation.

Reading order: `batching` (the only batch arithmetic), `packed_attention`, `chunked_loss`,
`pair_batches`, `memory`.
"""
