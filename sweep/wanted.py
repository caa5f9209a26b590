"""Which evaluations the models of each stage should have, known before anything runs."""

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
    """The benchmark as the grid names it: a name, or the path of a task file."""
    fingerprint: str
    metric: str
    higher_is_better: bool
    heldout: SftSpec | None = None


WantedByStage = dict[str, tuple[Wanted, ...]]


def wanted(grid: Grid, data: dict[str, str]) -> WantedByStage:
    """Evaluations of each stage's models: the benchmarks, and held-out losses.

    A model is scored on the held-out slice of its own stage and, as the `before` of the stages
    that start from
    it, on theirs (`heldout_loss@sft`). One slice serves all cells of a stage: that of its first
    cell.
    """
    common = []
    for name in grid.evaluate.benchmarks:
        benchmark = benchmarks.find(name)
        common.append(
            Wanted(
                benchmark=benchmark.name,
                task=name if name in benchmarks.BENCHMARKS else benchmark.tasks[0],
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


def _heldouts(grid: Grid, data: dict[str, str], slices: dict[str, str]) -> list[Wanted]:
    found = []
    for benchmark, stage in slices.items():
        spec = grid.stages[stage].cells[0][1]
        if spec.heldout == 0:
            continue
        mark = store.short_hash(
            grid.model.model_dump(), data[label(spec.data)], spec.heldout, spec.max_length,
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
