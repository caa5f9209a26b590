"""One trial's training, by TRL's trainers with exact effective batches.

Reading order: `loop` (all of it), `exact_batches`, `schedule`, `callbacks`, `checkpoints`, `state`,
`distributed`, `noise_scale`; then one file per kind of stage.
"""
