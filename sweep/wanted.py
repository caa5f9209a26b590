"""Which evaluations the models of each stage should have, known before anything runs."""

from typing import Any

from sweep import store
from sweep.grid import BASE, Grid
from sweep.preflight import label
from trainers import benchmarks
from trainers.benchmarks import HELDOUT
from trainers.spec import SftSpec, Strict


class Wanted(Strict):
    """One evaluation that a trial should have; `heldout` names the stage's data for a held-out
    loss."""

    benchmark: str
    task: str
    """The benchmark as the grid names it: a name, or the absolute path of a task file."""
    fingerprint: str
    metric: str
    higher_is_better: bool
    heldout: SftSpec | None = None


WantedByStage = dict[str, tuple[Wanted, ...]]


def wanted(grid: Grid, data: dict[str, str]) -> WantedByStage:
    """Evaluations of each stage's models: the benchmarks, and held-out losses.

    A model is scored on the held-out slice of its own stage and, as the `before` of the stages that
    start from it, on theirs (`heldout_loss@sft`). One slice serves all cells of a stage: that of
    its first cell.
    """
    common = []
    for name in grid.evaluate.benchmarks:
        benchmark = benchmarks.find(name)
        by_path = benchmark.name != name
        common.append(
            Wanted(
                benchmark=benchmark.name,
                task=benchmark.tasks[0] if by_path else name,
                fingerprint=benchmarks.fingerprint(benchmark, grid.evaluate),
                metric=benchmark.metric or "",
                higher_is_better=True,
            )
        )
    found = {}
    for name in (BASE, *grid.stages):
        slices = {
            f"{HELDOUT}@{n}": n for n, stage in grid.stages.items() if stage.start_from == name
        }
        slices |= {HELDOUT: name} if name != BASE else {}
        found[name] = (*common, *_heldouts(grid, data, slices))
    return found


def best_by(wants: tuple[Wanted, ...]) -> Wanted:
    """The evaluation that tells the best of a stage's trials, for `keep: best`."""
    return next((want for want in wants if want.benchmark == HELDOUT), wants[0])


def _heldouts(grid: Grid, data: dict[str, str], slices: dict[str, str]) -> list[Wanted]:
    found = []
    for benchmark, stage in slices.items():
        spec = grid.stages[stage].cells[0][1]
        if spec.heldout == 0:
            continue
        mark = store.short_hash(
            grid.model.model_dump(), _content(spec, data), spec.heldout, spec.max_length,
            spec.loss_on, grid.evaluate.dtype, benchmark,
        )  # fmt: skip
        found.append(
            Wanted(
                benchmark=benchmark,
                task=benchmark,
                fingerprint=mark,
                metric="loss",
                higher_is_better=False,
                heldout=spec,
            )
        )
    return found


def _content(spec: SftSpec, data: dict[str, str]) -> Any:
    """What decides which rows are held out, beside their number."""
    parts = [(data[label(source)], source.weight) for source in spec.sources]
    plain = len(parts) == 1 and spec.data_seed == 0  # as it was before there were mixtures
    return parts[0][0] if plain else [parts, spec.data_seed]
