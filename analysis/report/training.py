"""The training curves of a run folder's trials."""

import pandas as pd

from analysis.compare.source import Source
from analysis.figures.training_curves import TrainingCurve, curve_points, points_per_curve
from analysis.tables.records import run_folder, training_log


def read_curves(source: Source, rows: pd.DataFrame) -> list[TrainingCurve]:
    """A curve per trial of one grid; `rows` are the grid's. A table has none."""
    if source.folder is None:
        return []
    trials = rows.drop_duplicates("key").set_index("key")
    most = points_per_curve(len(trials))
    curves = []
    for folder, trial in run_folder.trials(source.folder):
        if trial["key"] not in trials.index:
            continue
        row = trials.loc[trial["key"]]
        if pd.isna(row.learning_rate) or pd.isna(row.batch_size):
            continue
        log = training_log.records(folder, most)
        if len(log) < 2:
            continue
        tokens, loss = curve_points(log)
        seed = None if pd.isna(row.seed) else int(row.seed)
        curves.append(
            TrainingCurve(
                float(row.learning_rate), int(row.batch_size), seed, str(row.status), tokens, loss
            )
        )
    return curves
