"""One trial's training, by TRL's trainers with exact effective batches.

Reading order: `loop` (all of it), `exact_batches` on `batch_loader`, `token_budget`,
`gradients` and `step`, `optimizers`, `schedule`, `records`, `callbacks`, `checkpoints`, `state`,
`distributed`, `sharding`, `compiled`, `noise_scale`; then one file for each kind of stage.
"""
