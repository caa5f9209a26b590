"""plan.csv of a run folder: the trials that its last start planned."""

from pathlib import Path

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.text import counted


def read_plan(run_dir: Path) -> pd.DataFrame | None:
    """A row per planned trial, its cells text; None without a plan.

    Raises:
        ResultsError: it is no plan.
    """
    path = run_dir / "plan.csv"
    if not path.exists():
        return None
    anew = "start the run's command again, which writes it anew"
    try:
        plan = pd.read_csv(path, dtype="str", keep_default_na=False)
    except ValueError as error:  # of pandas, and of text that is none
        raise ResultsError(f"{path}: no table ({str(error).strip()}); {anew}") from error
    if missing := {"key", "stage"} - set(plan):
        raise ResultsError(f"{path}: has no column {', '.join(sorted(missing))}; {anew}")
    return plan


def unplanned(run_dir: Path, frame: pd.DataFrame) -> tuple[str, ...]:
    """A sentence where the table has trials that the plan has not.

    Raises:
        ResultsError: as `read_plan`.
    """
    plan = read_plan(run_dir)
    count = 0 if plan is None else len(set(frame.key) - set(plan.key))
    if not count:
        return ()
    those = "it is an arm of its own" if count == 1 else "they are arms of their own"
    return (
        f"{counted(count, 'trial')} here {'is' if count == 1 else 'are'} not in the plan (plan.csv)"
        f", but of an earlier grid file or of --extend: counted too, and where a setting differs "
        f"{those}",
    )
