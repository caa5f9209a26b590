"""A calibration as `--calibrate` would leave it, of a grid."""

from sweep.price import calibration
from sweep.price.calibration import BenchmarkSpeed, Calibration, StageSpeed


def measured(grid, at_once: int = 2) -> Calibration:
    """Of all trainings that a grid has, at one speed."""
    speed = StageSpeed(tokens_per_example=30, seconds_per_step=0.1, seconds_per_token=0.01)
    return Calibration(
        version=calibration.VERSION,
        model=grid.model,
        limit=grid.evaluate.limit,
        setting=calibration.setting(grid),
        device="cpu",
        at_once=at_once,
        start_seconds=10.0,
        trial_seconds=1.0,
        stages={
            training.words: speed.model_copy(update={"setting": mark})
            for mark, training in calibration.trainings(grid).items()
        },
        benchmarks={"world_choice": BenchmarkSpeed(seconds=1.0, seconds_per_item=0.5, items=8)},
    )
