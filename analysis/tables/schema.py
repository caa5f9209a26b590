"""The columns of the one table, their types, and the check that every table passes.

learning_rate is the peak; batch_size the effective number of examples per optimizer step;
noise_scale the gradient noise scale in examples (McCandlish et al., arXiv 1812.06162), empty where
it was not measured; value and stderr are in the metric's own units; n counts its items.
"""

import numpy as np
import pandas as pd

from analysis.tables.run_folder import ResultsError

COLUMNS: dict[str, str] = {
    "key": "str",
    "parent": "str",
    "stage": "str",
    "arm": "str",
    "model": "str",
    "model_parameters": "Int64",
    "learning_rate": "float64",
    "batch_size": "Int64",
    "lr_bs_ratio": "float64",
    "seed": "Int64",
    "status": "str",
    "reason": "str",
    "steps": "Int64",
    "examples": "Int64",
    "tokens": "Int64",
    "epochs": "float64",
    "warmup_steps": "Int64",
    "adam_beta2": "float64",
    "learning_rate_sum": "float64",
    "noise_scale": "float64",
    "train_seconds": "float64",
    "eval_seconds": "float64",
    "benchmark": "str",
    "metric": "str",
    "primary": "boolean",
    "higher_is_better": "boolean",
    "task_type": "str",
    "value": "float64",
    "stderr": "float64",
    "n": "Int64",
}
STATUSES = ("ok", "diverged", "failed")
OPTIONAL = ("noise_scale",)
"""Columns that older tables do not have; empty there."""


def validated(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table with exactly `COLUMNS`, in order and typed.

    Raises:
        ResultsError: naming the source, the column and the first offending row.
    """
    frame = frame.assign(**{name: np.nan for name in OPTIONAL if name not in frame})
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise ResultsError(f"{source}: missing columns: {', '.join(missing)}")
    columns = {}
    for name, dtype in COLUMNS.items():
        try:
            column = frame[name].fillna("") if dtype == "str" else frame[name]
            columns[name] = column.astype(dtype)  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise ResultsError(f"{source}: column {name} is not {dtype}: {error}") from error
    table = pd.DataFrame(columns).reset_index(drop=True)
    wrong = {
        f"status is none of {', '.join(STATUSES)}": ~table.status.isin(STATUSES),
        "status is ok but value is empty": (table.status == "ok") & ~np.isfinite(table.value),
        "learning_rate is not above 0": table.learning_rate <= 0,
        "batch_size is not above 0": table.batch_size.fillna(1) <= 0,
        "key, benchmark and metric occur twice": table.duplicated(["key", "benchmark", "metric"]),
    }
    for problem, rows in wrong.items():
        if rows.any():
            raise ResultsError(f"{source}: row {int(np.argmax(rows)) + 1}: {problem}")
    return table
