"""The keys of a stage and of an evaluation, as frozen pydantic models. No torch.

Reading order: `fields`, `data`, `optimizer`, `adapter`, `training`, `preference`, `rlvr`, `kinds`,
`identity`, `lanes`, `evaluation`, `conditions`, `result`.
"""
