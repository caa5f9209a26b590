"""What every training is made of, whoever drives it: one model by TRL, or lanes in one pass.

Reading order: `schedule`, `optimizers`, `batch_loader`, `token_budget`, `step`, `gradients`,
`noise_scale`; `records` (a line per step), `checkpoints` and `state`; then `distributed`,
`over_nodes` and `sharding`.
"""
