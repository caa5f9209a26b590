"""What `--calibrate` measures here. Reading order: `calibrate`, `train_speed`, `eval_speed`."""
