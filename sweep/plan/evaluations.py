"""Which evaluations the models of each stage should have, known before anything runs."""

from collections.abc import Iterable, Iterator
from typing import Any

from sweep.gridfile import choosing
from sweep.gridfile.keys.schema import Grid
from trainers import files
from trainers.specs.identity import identity
from trainers.specs.kinds import StageSpec
from trainers.specs.training import TrainingSpec
from trainers.tasks import benchmarks
from trainers.tasks.required import Required, required


class Wanted(Required):
    """One evaluation that a trial should have; `heldout` names the stage's data for a held-out
    loss."""

    task: str
    """The benchmark as the grid names it: a name, or the absolute path of a task file."""
    heldout: StageSpec | None = None


WantedByStage = dict[str, tuple[Wanted, ...]]


def wanted(grid: Grid, data: dict[str, str]) -> WantedByStage:
    """Evaluations of each stage's models: the benchmarks, and held-out losses.

    A model is scored on the held-out slice of its own stage and, as the `before` of the stages that
    start from it, on theirs (`heldout_loss@sft`). One slice serves all cells of a stage: that of
    its first cell.
    """
    listed = [n for n in grid.evaluate.benchmarks if n not in benchmarks.OF_STAGES]
    labels = benchmarks.labels(listed)
    common = []
    for name in listed:
        each = required(benchmarks.find(name), labels[name], grid.evaluate)
        common.append(Wanted(task=benchmarks.canonical(name), **each.record))
    return {
        name: (
            *(want for want in common if fits(grid, name, want.task)),
            *_heldouts(grid, data, name),
        )
        for name in grid.scored_stages
    }


def fits(grid: Grid, stage: str, benchmark: str) -> bool:
    """Whether a benchmark is for the models of a stage: those that write, or those that judge. That
    of a screening run is its held-out slice, where there is one."""
    if stage not in grid.stages:
        leaves = "policy"
    else:
        spec = grid.stages[stage].cells[0][1]
        leaves = spec.LEAVES
        if grid.stages[stage].screens and spec.HELDOUT is not None and spec.heldout != 0:
            return False
    return benchmark in benchmarks.OF_STAGES or benchmarks.find(benchmark).scores == leaves


def named(wants: Iterable[Wanted], name: str) -> Wanted:
    """The evaluation that a grid means by a benchmark's name or task file.

    Raises:
        StopIteration: the stage has no such evaluation.
    """
    return next(w for w in wants if name == w.benchmark or benchmarks.canonical(name) == w.task)


def best_by(wants: tuple[Wanted, ...]) -> Wanted:
    """The evaluation that tells the best of a stage's trials, for `keep: best`: on its own held-out
    slice, or the first benchmark."""
    own = [want for want in wants if want.heldout is not None and "@" not in want.benchmark]
    return (own or wants)[0]


def _heldouts(grid: Grid, data: dict[str, str], name: str) -> Iterator[Wanted]:
    """Of the models of stage `name`: on its own slice, and on those of the stages that start from
    it."""
    for other, stage in grid.stages.items():
        spec = stage.cells[0][1]
        slice_, hashed = choosing.own_score(stage, grid.stages), spec.HELDOUT
        if slice_ is None or hashed is None or spec.heldout == 0:
            continue
        if other == name:
            at = ""
        elif stage.start_from == name and slice_.before and not stage.screens:
            at = f"@{other}"
        else:
            continue
        facts = identity(spec)
        decides = [facts[field] for field in spec.DATA_FIELDS if field in facts]
        for field in spec.SCORE_FIELDS:
            if facts[field] != type(spec).model_fields[field].default:  # which was not hashed once
                decides.append(f"{field}: {facts[field]}")
        content, dtype = _content(spec, data), grid.evaluate.dtype
        named = f"{hashed.benchmark}{at}"
        yield Wanted(
            benchmark=f"{slice_.benchmark}{at}",
            task=f"{slice_.benchmark}{at}",
            fingerprint=files.short_hash(grid.model.model_dump(), content, *decides, dtype, named),
            metric=slice_.metric,
            higher_is_better=slice_.higher_is_better,
            heldout=spec,
        )


def _content(spec: TrainingSpec, data: dict[str, str]) -> Any:
    """What decides which rows are held out, beside their number."""
    parts = [(data[source.label], source.weight) for source in spec.sources]
    plain = len(parts) == 1 and spec.data_seed == 0  # as it was before there were mixtures
    return parts[0][0] if plain else [parts, spec.data_seed]
