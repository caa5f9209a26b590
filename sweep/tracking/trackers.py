"""W&B and TensorBoard behind one interface, which trackio_run.py has too: a trial's curves and
scores, and the report.

The only `import wandb`, and the only `import tensorboardX`.
"""

import contextlib
import json
import shutil
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal, Protocol

from sweep.gridfile.keys.trackers import Wandb
from sweep.storage.run_folder import TrialFolder
from trainers import files

ANSWER_SECONDS = 10.0
"""Time-out of a request to the W&B server, after which runs are written offline."""

FLUSH_SECONDS = 2
"""Time between two writes of TensorBoard's event files."""

CURVES = ("loss", "smoothed_loss", "learning_rate", "grad_norm", "tokens")


class Sink(Protocol):
    """One trial, or the summary, in one tracker."""

    def log(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        ...

    def close(self, ended: "Ended") -> None: ...


class Ended:
    """Status, figures and scores of a trial, from its records."""

    def __init__(self, folder: TrialFolder, evaluations: list[dict[str, Any]]):
        self.training = folder.training() or {}
        self.last = (folder.attempts() or [{}])[-1]
        event = self.last.get("event")
        self.status = "failed" if event == "failed" else "interrupted"
        if event == "done":
            self.status = self.training.get("status", "interrupted")
        self.reason = (self.training if event == "done" else self.last).get("reason", "")
        self.scores: dict[str, float] = {}
        for evaluation in evaluations:
            record = files.read_json(folder.scores(evaluation["fingerprint"])) or {"scores": []}
            for score in record["scores"]:
                name = f"scores/{evaluation['benchmark']}/{score['metric']}"
                facts = {name: score["value"], f"{name}_stderr": score["stderr"]}
                facts[f"{name}_n"] = score["n"]
                self.scores |= {key: value for key, value in facts.items() if value is not None}

    @property
    def figures(self) -> dict[str, Any]:
        """train.json and the scores, flat."""
        training = {
            f"train/{key}": value for key, value in self.training.items() if value is not None
        }
        for key in ("status", "reason"):
            training.pop(f"train/{key}", None)
        return {"status": self.status, "reason": self.reason, **training, **self.scores}


def described(trial: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a trial as a tracker shows it."""
    spec = trial.get("spec") or {}
    facts = {name: trial.get(name) for name in ("key", "parent", "stage", "arm", "kind", "model")}
    if spec:
        facts["lr_bs_ratio"] = spec["learning_rate"] / spec["batch_size"]
    return facts | spec


def curves(row: dict[str, Any]) -> dict[str, float]:
    """A loss that is not finite is null in the record and left out here."""
    return {f"train/{name}": row[name] for name in CURVES if row.get(name) is not None}


class WandbRun:
    """A W&B run, which replaces an earlier one of the same id."""

    def __init__(
        self,
        settings: Wandb,
        mode: Literal["online", "offline"],
        run_dir: Path,
        grid: str,
        label: str,
        **facts: Any,
    ):
        import wandb

        run_id = f"{grid}-{label}"
        for earlier in run_dir.glob(f"wandb/*run-*-{run_id}"):
            shutil.rmtree(earlier)
        self.run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            mode=mode,
            dir=str(run_dir),
            id=run_id,
            group=grid,
            reinit="create_new",  # several trials at once
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                x_disable_stats=True,  # of this process, which trains nothing
                x_save_requirements=False,  # of this process too; versions are in manifest.json
            ),
            **facts,
        )

    def log(self, row: dict[str, Any]) -> None:
        self.run.log(curves(row), step=row["step"])

    def close(self, ended: Ended) -> None:
        self.run.summary.update(ended.figures)
        self.run.finish(exit_code=0 if ended.status in ("ok", "diverged") else 1)


def unanswered() -> str:
    """Why the W&B server cannot be used; "" where it answers."""
    import wandb

    address = wandb.setup().settings.base_url
    trusting = ssl.create_default_context()  # no data is sent, so the certificate does not matter
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    try:
        urllib.request.urlopen(address, timeout=ANSWER_SECONDS, context=trusting).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"{address} does not answer ({error}), so it is written offline"
    return ""


class EventFile:
    """An event file, which replaces an earlier one of the same trial."""

    def __init__(self, folder: Path, trial: dict[str, Any]):
        from tensorboardX import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self._trial = trial
        self._writer = SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS)
        self._step = 0

    def log(self, row: dict[str, Any]) -> None:
        self._step = row["step"]
        for name, value in curves(row).items():
            self._writer.add_scalar(name, value, self._step)

    def close(self, ended: Ended) -> None:
        for name, value in ended.scores.items():
            self._writer.add_scalar(name, value, self._step)
        facts = {"config": described(self._trial), "ended": ended.figures}
        self._writer.add_text("trial", f"```\n{json.dumps(facts, indent=1)}\n```", self._step)
        self._writer.close()


def log_report(
    run: Any, results: list[dict[str, Any]], recommended: dict[str, Any], figures: list[Path]
) -> None:
    import wandb

    stage = recommended.get("stages", {}).get(recommended.get("stage"), {})
    rows = [
        {"of": kind, "name": name} | setting
        for kind in ("benchmarks", "task_types")
        for name, setting in stage.get("setting", {}).get(kind, {}).items()
        if setting
    ]
    for title, table in (("results", results), ("recommendations", rows)):
        columns = list(dict.fromkeys(key for row in table for key in row))
        data: list[Any] = [[_plain(row.get(column)) for column in columns] for row in table]
        run.log({title: wandb.Table(columns=columns, data=data, allow_mixed_types=True)}, step=0)
    images = {f"figures/{figure.stem}": wandb.Image(str(figure)) for figure in figures}
    if images:
        run.log(images, step=0)
    run.summary.update(
        {
            f"recommended/{row['name']}/{key}": row.get(key)
            for row in rows
            for key in ("learning_rate", "batch_size", "expected_regret", "regret_high")
        }
    )
    run.finish()


def _plain(value: Any) -> Any:
    """A cell of a table: numbers as numbers, nested values as JSON."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return None if value == "" else value
