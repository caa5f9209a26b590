"""plan.csv of a run folder: the trials that its last start planned."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.tables.errors import ResultsError
from analysis.tables.records import run_folder
from analysis.text import counted, listed


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


def to_come(plan: pd.DataFrame, frame: pd.DataFrame, stage: str) -> int:
    """Trials of a stage that are planned and have neither ended nor failed; `frame` is the whole
    table. What starts from a model that diverged or failed never runs."""
    ended, lost = set(frame.key), set(frame.key[frame.status != "ok"])
    count = 0
    for key, parent, of in zip(plan.key, _parents(plan), plan.stage, strict=True):
        if key not in ended and parent in lost:
            lost.add(key)
        count += of == stage and key not in ended | lost
    return count


def descendants(plan: pd.DataFrame, stage: str) -> dict[str, int]:
    """Later stages of which trials start from each one of a stage, and how many do at least."""
    origin = {key: key for key in plan.key[plan.stage == stage]}
    counts: dict[str, Counter[str]] = {}
    for key, parent, of in zip(plan.key, _parents(plan), plan.stage, strict=True):
        if parent in origin:
            origin[key] = origin[parent]
            counts.setdefault(of, Counter())[origin[key]] += 1
    every = int((plan.stage == stage).sum())
    return {of: min(its.values()) for of, its in counts.items() if len(its) == every}


def _parents(plan: pd.DataFrame) -> Sequence[str]:
    """Of each trial, before which it stands; "" where it has none."""
    return list(plan.parent) if "parent" in plan else [""] * len(plan)


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


def left_out(run_dir: Path, frame: pd.DataFrame) -> tuple[str, ...]:
    """A sentence for each set of benchmarks on which models that the plan has not have no score as
    the grid file asks for it now, and for each stage that the manifest has not; no start scores
    them anew. `frame` is the whole table.

    Raises:
        ResultsError: as `read_plan`.
    """
    plan = read_plan(run_dir)
    if plan is None:
        return ()
    stages, planned = run_folder.scored_stages(run_dir), set(plan.key)
    rows = set(zip(frame.key, frame.benchmark, strict=True))
    keys: dict[tuple[str, ...], list[str]] = {}
    of_no_stage: dict[str, list[str]] = {}
    for folder, trial in run_folder.trials(run_dir):
        key, stage = trial["key"], trial["stage"]
        evaluations = run_folder.due(folder, run_folder.wanted(stages, stage))
        lacking = [e["benchmark"] for e in evaluations if (key, e["benchmark"]) not in rows]
        made = (folder / "train.json").exists() or any(folder.glob("scores/*.json"))
        if key in planned or not made:
            continue
        if stage not in stages:  # an earlier version kept no stage that was taken out
            of_no_stage.setdefault(stage, []).append(key)
        elif lacking:
            keys.setdefault(tuple(lacking), []).append(key)
    gone = [
        f"{counted(len(those), 'trial')} of stage {stage} ({_named(those)}) "
        f"{'is' if len(those) == 1 else 'are'} left out, as the grid file does not have this stage "
        "any more; put it back to have them in the table"
        for stage, those in of_no_stage.items()
    ]
    unscored = [
        f"{counted(len(those), 'trial')} of an earlier grid file ({_named(those)}) "
        f"{'has' if len(those) == 1 else 'have'} no score of {listed(list(lacking))} as the grid "
        "file asks for it now: left out there. Put `evaluate` and the held-out data back, or "
        "these cells into the grid file, which scores them anew"
        for lacking, those in keys.items()
    ]
    return (*gone, *unscored)


def never_scored(run_dir: Path) -> dict[str, list[str]]:
    """Evaluation on the data of a later stage -> keys of the models that never get its score, as
    `keep` had removed their weights before the grid file asked for it."""
    keys: dict[str, list[str]] = {}
    paths = sorted(run_dir.glob("trials/*/trial.json"))
    removed = [path for path in paths if path.with_name(run_folder.REMOVED).exists()]
    stages = run_folder.scored_stages(run_dir) if removed else {}
    for path in removed:
        trial = run_folder.identity(path)
        wanted = run_folder.wanted(stages, trial["stage"])
        due = run_folder.due(path.parent, wanted)
        for evaluation in (one for one in wanted if one not in due):
            keys.setdefault(evaluation["benchmark"], []).append(trial["key"])
    return keys


def empty_cells(run_dir: Path) -> tuple[str, ...]:
    """A sentence for each evaluation of `never_scored`."""
    return tuple(
        f"{benchmark}: {counted(len(keys), 'trial')} ({_named(keys)}) "
        f"{'has' if len(keys) == 1 else 'have'} no score: `keep` had removed the weights before "
        "the grid file asked for it"
        for benchmark, keys in never_scored(run_dir).items()
    )


NAMED = 6
"""More keys than these are not named."""


def _named(keys: Sequence[str]) -> str:
    return ", ".join(keys[:NAMED]) + (" ..." if len(keys) > NAMED else "")
