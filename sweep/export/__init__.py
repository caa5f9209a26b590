"""The best model of a stage as a transformers folder with a model card.

Command: `python -m sweep.export`. Reading order: `__main__`, `candidates`, `model_card` with
`usage`.
"""
