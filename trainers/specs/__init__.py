"""The keys of a stage and of an evaluation, as frozen pydantic models. No torch.

Reading order: `data`, `optimizer`, `adapter`, `training`, `preference`, `rlvr`, `kinds`,
`lanes`, `evaluation`, `conditions`, `result`.
"""
