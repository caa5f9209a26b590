"""What can be wrong with `search` and `decide`, which choose cells of the one swept stage.

(Place in the file, sentence) for each problem.
"""

from collections.abc import Iterator
from pathlib import Path

from analysis.tables.nearby import hint
from sweep.gridfile import screening
from sweep.gridfile.keys.choosers import NO_PRIOR, PUBLISHED, Decide, Search
from sweep.gridfile.keys.schema import BASE, EACH, Stage
from sweep.gridfile.yaml import KeyPath
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.identity import NOT_IN_IDENTITY
from trainers.specs.training import HeldoutScore, heldout_score
from trainers.tasks import benchmarks

Problems = Iterator[tuple[KeyPath, str]]

DECIDED_AXES = ("learning_rate", "batch_size", "seed")
FEWEST = 3
"""Learning rates, so that one can lie inside."""


def searched(search: Search, stages: dict[str, Stage], evaluate: EvaluateSpec) -> Problems:
    """One stage to choose cells of, and a score to choose them by."""
    swept = [stage for stage in stages.values() if stage.searched_axes]
    if len(swept) != 1:
        names = ", ".join(stage.name for stage in swept) or "none"
        yield ("search",), f"needs exactly one stage with a grid; there is {names}"
        return
    (stage,) = swept
    own = own_score(stage, stages)
    own_names: list[str] = [own.benchmark] if own else []
    allowed = list(dict.fromkeys([*own_names, *evaluate.benchmarks]))
    if not any(benchmarks.same(search.objective, name) for name in allowed):
        yield ("search", "objective"), f"{search.objective!r}: use one of {', '.join(allowed)}"
    if len({arm for arm, _ in stage.cells}) > 1:
        path = ("stages", stage.name, "arms")
        yield path, "arms compare whole grids; `search` runs a part: give one of them"
    yield from _one_parent("search", stage, stages)
    unheld = any(spec.heldout == 0 for _, spec in stage.cells)
    if own is not None and search.objective == own.benchmark and unheld:
        path = ("stages", stage.name, "heldout")
        yield path, f"0, and `search` needs the {own.benchmark}"


def decided(
    decide: Decide, search: Search | None, stages: dict[str, Stage], evaluate: EvaluateSpec
) -> Problems:
    """One stage of learning rates by batch sizes, and scores that are asked about."""
    if search is not None:
        yield ("decide",), "and `search` both choose the cells to run; give one of them"
        return
    swept = [stage for stage in stages.values() if stage.searched_axes]
    if len(swept) != 1:
        names = ", ".join(stage.name for stage in swept) or "none"
        yield ("decide",), f"needs exactly one stage with a grid; there is {names}"
        return
    (stage,) = swept
    for key in stage.axes.keys() - set(DECIDED_AXES):
        yield (
            stage.axis_place(key),
            f"`decide` chooses among learning rates, batch sizes and seeds; give {key} one value, "
            "beside `grid`",
        )
    if (count := len(stage.axes.get("learning_rate", ()))) < FEWEST:
        path = stage.axis_place("learning_rate")
        yield path, f"{count} values; `decide` needs {FEWEST} or more to place the best one"
    if len({arm for arm, _ in stage.cells}) > 1:
        path = ("stages", stage.name, "arms")
        yield path, "arms compare whole grids; `decide` runs a part: give one of them"
    yield from _one_parent("decide", stage, stages)
    allowed = measured(stage, stages, evaluate)
    for index, name in enumerate(decide.benchmarks):
        if not any(benchmarks.same(name, one) for one in allowed):
            path = ("decide", "benchmarks", index)
            yield path, f"{name!r}: use one of {', '.join(allowed)}"
    if problem := _prior(decide.prior, stage):
        yield ("decide", "prior"), problem
    if decide.fidelity is not None:
        for problem in screening.problems(decide.fidelity, decide.prior, stages):
            yield ("decide", "fidelity"), problem


def starts(stage: Stage, stages: dict[str, Stage]) -> int:
    """How many models each cell of the stage starts from in turn."""
    if stage.start_from == BASE or stage.parent != EACH:
        return 1
    start = stages[stage.start_from]
    return starts(start, stages) * len(start.cells)


def own_score(stage: Stage, stages: dict[str, Stage]) -> HeldoutScore | None:
    """What the held-out slice of a stage is called, comparable over all of its models."""
    specs = [spec for _, spec in stage.cells]
    return heldout_score(specs, several_starts=_starts_but_for_seeds(stage, stages) > 1)


def _starts_but_for_seeds(stage: Stage, stages: dict[str, Stage]) -> int:
    """As `starts`, seeds of one setting as one model."""
    if stage.start_from == BASE or stage.parent != EACH:
        return 1
    start = stages[stage.start_from]
    no_setting = {"seed", *NOT_IN_IDENTITY}
    settings = {(arm, spec.model_dump_json(exclude=no_setting)) for arm, spec in start.cells}
    return _starts_but_for_seeds(start, stages) * len(settings)


def _one_parent(chooser: str, stage: Stage, stages: dict[str, Stage]) -> Problems:
    if (count := starts(stage, stages)) > 1:
        path = ("stages", stage.name, "parent")
        yield (
            path,
            f"{count:,} models of {stage.start_from} are each the start of every cell, and "
            f"`{chooser}` chooses cells of one; give parent: {{best: BENCHMARK}}, or a model's key",
        )


def _prior(prior: str, stage: Stage) -> str:
    """What is wrong with it; "" where nothing is."""
    if prior == NO_PRIOR:
        return ""
    if prior != PUBLISHED:
        if (Path(prior) / "plan.csv").is_file():
            return ""
        near = hint(Path(prior))
        return (
            f"no run folder {prior!r} (from {Path.cwd()}); use {NO_PRIOR}, {PUBLISHED} or one{near}"
        )
    spec = stage.cells[0][1]
    what = "an adapter" if spec.adapter is not None else f"optimizer {spec.optimizer}"
    if spec.adapter is not None or spec.optimizer != "adamw":
        return f"the published rates are of AdamW on all weights, not of {what}; use {NO_PRIOR}"
    return ""


def measured(stage: Stage, stages: dict[str, Stage], evaluate: EvaluateSpec) -> list[str]:
    """Benchmarks of the stage's models, its own held-out score first."""
    spec = stage.cells[0][1]
    listed = [
        benchmark
        for benchmark in evaluate.benchmarks
        if benchmark not in benchmarks.OF_STAGES
        and benchmarks.find(benchmark).scores == spec.LEAVES
    ]
    own = own_score(stage, stages)
    return [own.benchmark, *listed] if own is not None and spec.heldout != 0 else listed
