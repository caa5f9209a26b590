"""The keys of a stage and of an evaluation, as frozen pydantic models. No torch.

Reading order: `fields`, `file_names`, `data`, `optimizer`, `adapter`, `training`, `preference`,
`rlvr`, `kinds`, `identity`, `lanes`, `evaluation`, `conditions`, `result`.
"""
