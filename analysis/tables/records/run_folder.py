"""The records of a run folder, as the sweep writes them -> rows of the table."""

import json
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from analysis.benchmarks import ON_DATA_OF, table_type
from analysis.tables.errors import ResultsError
from analysis.tables.nearby import hint
from analysis.tables.records.score_record import WAY_OUT, primary_metric, problem, recorded_as
from analysis.tables.records.training_log import objects
from analysis.tables.settings import AXES, flat

LAYOUT = 1
"""The newest layout of a run folder that is read; sweep/storage/run_folder.py writes the number."""

IDENTITY = {
    "key": str, "stage": str, "parent": str | None, "arm": str | None, "model": str | None,
    "spec": dict | None,
}  # fmt: skip
"""What trial.json holds."""

REMOVED = "weights_removed.json"
"""Says why a trial that was trained has no weights any more."""

TRAIN_COLUMNS = (
    "model_parameters",
    "trained_parameters",
    "steps",
    "examples",
    "tokens",
    "epochs",
    "warmup_steps",
    "adam_beta2",
    "learning_rate_sum",
    "noise_scale",
    "train_seconds",
)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, or lies in one, or holds some, so that `manifest` says more."""
    own = (folder / "manifest.json").exists() or (folder / "plan.csv").exists()
    return own or bool(hint(folder))


def manifest(run_dir: Path) -> dict[str, Any]:
    """manifest.json of a run folder.

    Raises:
        ResultsError: the folder has none, it is not JSON, or a later version has written it.
    """
    path = run_dir / "manifest.json"
    if not path.exists():
        raise ResultsError(f"{run_dir}: not a run folder (no manifest.json){hint(run_dir)}")
    record = load(path)
    written = record.get("layout", LAYOUT)
    if not isinstance(written, int) or written > LAYOUT:
        raise ResultsError(
            f"{path}: written by a later version (layout {written}; this one reads up to "
            f"{LAYOUT}): update the code"
        )
    if not isinstance(record.get("name", ""), str):
        raise ResultsError(f"{path}: name: holds no text; start the run's command again")
    for name in ("stages", "earlier_stages"):
        stages = record.get(name, {})
        if not isinstance(stages, dict) or not all(
            isinstance(stage, dict) for stage in stages.values()
        ):
            raise ResultsError(f"{path}: {name}: holds no object; start the run's command again")
    return record


def trials(run_dir: Path, but: Container[Path] = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and trial.json of every trial there is, sorted by folder; `but` those in these.

    Raises:
        ResultsError: one holds what was never written there, or two are of one trial.
    """
    folders: dict[str, Path] = {}
    for path in sorted((run_dir / "trials").glob("*/trial.json")):
        if path.parent in but:
            continue
        record = identity(path)
        other = folders.setdefault(record["key"], path.parent)
        if other != path.parent:
            raise ResultsError(
                f"{other} and {path.parent} are of one trial ({record['key']}); delete one of "
                "them, or move it out of trials/"
            )
        yield path.parent, record


def identity(path: Path) -> dict[str, Any]:
    """A trial.json.

    Raises:
        ResultsError: it holds what was never written there.
    """
    record = load(path)
    for name, kind in IDENTITY.items():
        if name not in record or not isinstance(record[name], kind):
            raise ResultsError(f"{path}: {name}: {record.get(name)!r}; put it back")
    spec: dict[str, Any] | None = record["spec"]
    for name in AXES:
        if spec is not None and not isinstance(spec.get(name), int | float):
            raise ResultsError(f"{path}: spec.{name}: is no number; put it back")
    return record


def scored_stages(run_dir: Path) -> dict[str, Any]:
    """The stages of the manifest, and then those that the grid file has no more.

    Raises:
        ResultsError: as `manifest`.
    """
    record = manifest(run_dir)
    return record.get("stages", {}) | record.get("earlier_stages", {})


def wanted(stages: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    """The evaluations now wanted of a stage's trials; `stages` as in the manifest."""
    return stages.get(stage, {}).get("evaluations", [])


def due(folder: Path, evaluations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those evaluations that a trial has or can get: not what a later stage asks of the models that
    it starts from, where `keep` had removed the trial's weights before that stage was added."""
    removed = (folder / REMOVED).exists()
    return [
        evaluation
        for evaluation in evaluations
        if not (removed and ON_DATA_OF in evaluation["benchmark"])
        or (folder / "scores" / f"{evaluation['fingerprint']}.json").exists()
    ]


def trial_rows(
    folder: Path, trial: dict[str, Any], evaluations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows of one trial; none for what has neither ended nor failed yet.

    Raises:
        ResultsError: a record holds what was never written there.
    """
    with shaped(folder):
        return _rows_of(folder, trial, evaluations)


@contextmanager
def shaped(path: Path) -> Iterator[None]:
    """
    Raises:
        ResultsError: what the block reads has not the shape in which it was written.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}: holds what was never written there ({type(error).__name__}: {error}); put it "
            "back, or delete it and start the run's command again"
        ) from error


def _rows_of(
    folder: Path, trial: dict[str, Any], evaluations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    train_path = folder / "train.json"
    train = load(train_path) if train_path.exists() else {}
    if train and train.get("status") not in ENDS:
        raise ResultsError(
            f"{train_path}: status: {train.get('status')!r} is no end of a training; it is one of "
            f"{', '.join(ENDS)}; delete the file to train the trial anew"
        )
    failure = _last_failure(folder / "attempts.jsonl")
    spec = trial.get("spec") or {}
    learning_rate, batch_size = spec.get("learning_rate"), spec.get("batch_size")
    shared = {
        "key": trial["key"],
        "parent": trial.get("parent") or "",
        "stage": trial["stage"],
        "arm": trial.get("arm") or "",
        "model": trial.get("model") or "",
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "lr_bs_ratio": learning_rate / batch_size if learning_rate and batch_size else None,
        "seed": spec.get("seed"),
        "optimizer": flat(spec)["optimizer"] if spec else "",
        "adapter": flat(spec)["adapter"],
    } | {name: train.get(name) for name in TRAIN_COLUMNS}
    shared |= trial.get("settings", {})
    diverged = train.get("status") == "diverged"
    rows = []
    for evaluation in due(folder, evaluations):
        base = shared | _named(evaluation["benchmark"])
        score_path = folder / "scores" / f"{evaluation['fingerprint']}.json"
        if diverged or not score_path.exists():
            status = "diverged" if diverged else "failed"
            reason = train.get("reason", "") if diverged else failure
            if reason is not None:
                rows.append(base | _no_score(evaluation, status, reason))
            continue
        record = load(score_path)
        base |= {"status": "ok", "reason": "", "eval_seconds": record.get("eval_seconds")}
        settings = record.get("settings") or {}
        if not isinstance(settings, dict):
            raise ResultsError(f"{score_path}: settings: holds no object; {WAY_OUT}")
        base |= {"scored": (score_path, settings)}
        scores = [_score(score, score_path) for score in record["scores"]]
        base |= _named(recorded_as(record, evaluation))
        primary = primary_metric(scores, evaluation.get("metric"))
        rows += [base | row | {"primary": row["metric"] == primary} for row in scores]
    return rows


def _named(benchmark: str) -> dict[str, Any]:
    return {"benchmark": benchmark, "task_type": table_type(benchmark)}


def _no_score(evaluation: dict[str, Any], status: str, reason: str) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "metric": evaluation["metric"],
        "primary": True,
        "higher_is_better": evaluation["higher_is_better"],
    }


ENDS = ("ok", "diverged")
"""Of a training, in train.json."""


def _score(score: dict[str, Any], path: Path) -> dict[str, Any]:
    """
    Raises:
        ResultsError: no benchmark gives such a value.
    """
    if told := problem(score):
        raise ResultsError(f"{path}: {told}")
    names = ("metric", "primary", "higher_is_better", "value", "stderr", "n")
    row = {name: score.get(name) for name in names}
    if row["value"] is None or not np.isfinite(row["value"]):
        row |= {"status": "failed", "reason": "the score is not a finite number", "value": None}
    return row


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file; what is no object is skipped, and half a line, which a killed
    writer leaves."""
    return objects(path.read_bytes().splitlines())


def _last_failure(path: Path) -> str | None:
    """Why the latest attempt failed; None when it did not fail, or nothing was tried."""
    if not path.exists():
        return None
    event = (json_lines(path) or [{}])[-1]
    return (event.get("reason") or "no reason recorded") if event.get("event") == "failed" else None


def load(path: Path) -> dict[str, Any]:
    """A JSON record.

    Raises:
        ResultsError: it is not JSON.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # that it is no text among them
        raise ResultsError(f"{path}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ResultsError(f"{path}: holds no object; delete it to make it anew")
    return record
