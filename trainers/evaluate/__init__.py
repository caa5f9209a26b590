"""Scores of a model: lm-eval benchmarks, held-out loss, pair accuracy, held-out reward.

Command: `python -m trainers.evaluate`. `benchmarks` loads no torch and is read at plan time.
Reading order: `benchmarks`, `tasks`, `harness`, `scores`; then one file per other score.
"""
