"""The best model of a stage as a folder to use and to share.

    python -m sweep.export runs/quickstart --to exported
    python -m sweep.export runs/smoltulu --stage dpo --best gsm8k --to smoltulu-dpo
    python -m sweep.export runs/lora --as adapter --to my-adapter

A transformers folder, or with `--as adapter` the adapter alone as PEFT loads it: weights, tokenizer
with chat template, generation config, and a model card with recipe, data, scores and the sweep's
figure. Exit codes: 2 the command line is wrong, 4 the model is not to be had; nothing is written
then.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from analysis.benchmarks import task
from analysis.tables.nearby import hint
from analysis.text import safe
from sweep.execution import remote_run
from sweep.export import candidates, model_card
from sweep.export.candidates import Candidate
from sweep.storage import ranking
from sweep.storage.remote.object_store import Unreachable
from sweep.storage.run_folder import RunFolder
from trainers import files
from trainers.cli import BAD_INPUT, CANNOT_RUN, refusing, stop
from trainers.models import adapters, licence, load
from trainers.specs.data import Model
from trainers.specs.kinds import KINDS
from trainers.tasks import benchmarks

FIGURE = "sweep.png"

Form = Literal["merged", "adapter"]
"""Of a model that was trained as an adapter: its weights with the adapter added, or the adapter."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class CannotExport(Exception):
    """The message says why, and what to do; `code` is the exit code."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def export(
    run_dir: Path,
    to: Path,
    stage: str | None = None,
    best: str | None = None,
    form: Form = "merged",
    say: Callable[[str], object] = lambda line: None,
) -> Path:
    """Write the model that is best by a benchmark (that of the stage's own held-out slice where it
    has one, else its first) among the trials of a stage (the last that trains a policy); returns
    `to`.

    Raises:
        CannotExport: no such run, stage or benchmark; no weights; `to` is not empty; no adapter
            where one is asked for.
    """
    manifest = files.read_json(run_dir / "manifest.json")
    if manifest is None:
        near = hint(run_dir)
        raise CannotExport(BAD_INPUT, f"{run_dir}: no run folder (it has no manifest.json){near}")
    if newer := RunFolder(run_dir).newer():
        raise CannotExport(BAD_INPUT, newer)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CannotExport(BAD_INPUT, f"--to {to}: is there and not empty; name a new folder")
    if to.resolve() == Path.cwd():
        raise CannotExport(BAD_INPUT, f"--to {to}: is the folder you are in; name a new folder")
    trials = candidates.of_run(run_dir)
    stages = manifest.get("earlier_stages", {}) | manifest["stages"]
    stage = _stage(stages, trials, stage)
    required = stages[stage]["evaluations"]
    best = _benchmark(stage, [want["benchmark"] for want in required], best)
    want = next(evaluation for evaluation in required if evaluation["benchmark"] == best)
    ranked = candidates.ranked_by(trials, stage, want)
    if not ranked:
        of_stage = [folder for folder, trial in trials.values() if trial["stage"] == stage]
        if any(ranking.lacks_metric(folder, want) for folder in of_stage):
            raise CannotExport(
                CANNOT_RUN,
                f"an earlier version has scored stage {stage!r} without {best!r}; delete "
                f"scores/{want['fingerprint']}.json in its trials and start the command again",
            )
        raise CannotExport(CANNOT_RUN, f"no trial of stage {stage!r} has a score of {best!r} yet")
    chosen = ranked[0]
    if not chosen.folder.has_weights():
        raise CannotExport(CANNOT_RUN, candidates.gone(chosen, ranked, best))
    say(candidates.why(chosen, ranked, stage, best))
    line = _line(chosen.trial, trials)
    records = [
        record
        for evaluation in required
        if (record := files.read_json(chosen.folder.scores(evaluation["fingerprint"]))) is not None
    ]
    figure = _figure(run_dir, stage, chosen.arm, best)
    note = (
        f"Chosen as the best of {candidates.compared(ranked)} by {task(best).label} "
        f"({candidates.measured(chosen.cell)}){candidates.left_out(ranked)}. The best of several "
        "looks a little better than it is."
    )
    facts = model_card.Facts(
        name=to.name,
        run=manifest["name"],
        line=line,
        prepared=manifest.get("prepared", []),
        scores=records,
        chosen=note if len(ranked) > 1 else "",
        figure=FIGURE if figure else "",
        figure_of=task(best).label,
        licence=licence.licence(line[0].trial["model"]),
        commit=manifest.get("git_commit"),
        packages=manifest.get("packages", {}),
        adapter=form == "adapter",
    )
    try:
        with remote_run.weights(chosen.folder.path) as model:
            if form == "adapter" and not adapters.is_adapter(model):
                raise CannotExport(BAD_INPUT, _no_adapter(chosen))
            _write(model, chosen.trial, to, model_card.text(facts), figure, form)
    except Unreachable as error:
        raise CannotExport(CANNOT_RUN, str(error)) from error
    return to


def _no_adapter(chosen: Candidate) -> str:
    spec = chosen.trial["spec"]
    why = "it was trained without one"
    if spec.get("adapter"):
        why = "it is merged: it starts from a trained model, or has a head of its own"
    return f"--as adapter: trial {chosen.trial['key']} has no adapter ({why}); leave --as out"


def _write(
    model: Path, trial: dict[str, Any], to: Path, text: str, figure: Path | None, form: Form
) -> None:
    """Aside and renamed: the folder is whole or not there."""
    aside = to.with_name(f".{to.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    if adapters.is_adapter(model) and form == "merged":
        base = Model(name=trial["model"], revision=trial["model_revision"])
        try:
            merged = load.load(str(model), base=base, on_cpu=True)
        except load.ModelUnavailable as error:
            raise CannotExport(CANNOT_RUN, str(error)) from error
        merged.model.save_pretrained(aside)
        merged.tokenizer.save_pretrained(aside)
    else:
        shutil.copytree(model, aside)
    (aside / "README.md").write_text(text, encoding="utf-8")
    if figure is not None:
        shutil.copyfile(figure, aside / FIGURE)
    files.take_place(aside, to)


def _stage(stages: Mapping[str, Any], trials: dict[str, Any], asked: str | None) -> str:
    kinds = {record["stage"]: record["kind"] for _, record in trials.values()}
    there = [
        name for name, its in stages.items() if kinds.get(name) in KINDS and its["evaluations"]
    ]
    if asked is not None and asked not in there:
        listed = ", ".join(there) or "none"
        raise CannotExport(BAD_INPUT, f"--stage {asked}: the run's stages are {listed}")
    policies = [name for name in there if KINDS[kinds[name]].LEAVES == "policy"]
    if asked is None and not policies:
        raise CannotExport(CANNOT_RUN, "no stage of this run has trained a model yet")
    return asked or policies[-1]


def _benchmark(stage: str, there: list[str], asked: str | None) -> str:
    if asked is None:
        return next((name for name in there if name in benchmarks.OF_STAGES), there[0])
    if asked not in there:
        listed = ", ".join(there)
        raise CannotExport(BAD_INPUT, f"--best {asked}: stage {stage!r} is scored on {listed}")
    return asked


def _line(trial: dict[str, Any], trials: dict[str, Any]) -> list[model_card.Step]:
    """The trainings that made the model, the first one first."""
    line: list[model_card.Step] = []
    key = trial["key"]
    while key in trials:
        folder, record = trials[key]
        if record["spec"] is not None:
            line.insert(0, model_card.Step(record, folder.training() or {}))
        key = record["parent"]
    return line


def _figure(run_dir: Path, stage: str, arm: str, benchmark: str) -> Path | None:
    """The report's contour of the benchmark, where the stage has a grid and a report."""
    parts = [safe(part) for part in (stage, arm, benchmark) if part]
    figures = run_dir / "report" / "figures"
    names = [f"{'-'.join(parts)}-{kind}.png" for kind in ("contour", "rate")]
    return next((figures / name for name in names if (figures / name).is_file()), None)


@app.command()
@refusing
def main(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="New folder of the model.")],
    stage: Annotated[
        str | None, typer.Option(help="Stage of the model; the last that trains a policy.")
    ] = None,
    best: Annotated[
        str | None,
        typer.Option(metavar="BENCHMARK", help="Which score picks it; the held-out loss."),
    ] = None,
    form: Annotated[
        Form, typer.Option("--as", help="A LoRA model with its adapter merged, or the adapter.")
    ] = "merged",
) -> None:
    """Write the best model of a stage as a transformers folder with a model card."""
    try:
        print(export(run_dir, to, stage, best, form, say=print))
    except CannotExport as error:
        stop(error.code, str(error))


if __name__ == "__main__":
    app()
