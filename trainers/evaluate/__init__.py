"""Scores of a model: lm-eval benchmarks, held-out loss, pair accuracy, held-out reward.

Command: `python -m trainers.evaluate`. Reading order: `open_model`, `harness`, `divide_requests`,
`harness_results`, `continuous_metrics`, `scores`, `try_out`; then one file per other score:
`heldout_loss`, `heldout_preference`, `heldout_reward`, `pair_accuracy`.
"""
