"""Log-likelihoods and texts of a model, fast: each distinct prefix is computed once.

Reading order: `harness_model` (the model as lm-eval sees it), `prefix_tree`, `decoder`, `proof`,
`prefix_attention`, `generation`, `slots`, `stopping`, `logprobs`, `token_budget`.
"""
