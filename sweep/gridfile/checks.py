"""What can be wrong with stages beside each other: how they start from each other, what their
models are scored on, and what is searched. (Place in the file, sentence) for each problem.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sweep.gridfile import cells, choosing
from sweep.gridfile.keys.choosers import Decide, Search
from sweep.gridfile.keys.resources import TrialResources
from sweep.gridfile.keys.schema import (
    BASE,
    EACH,
    MAX_CELLS,
    Best,
    Limits,
    Pricing,
    Stage,
)
from sweep.gridfile.yaml import KeyPath
from trainers.data import row_counts
from trainers.data.rows import sources
from trainers.data.rows.stored_rows import DataUnavailable
from trainers.models import adapters, at_hand
from trainers.rewards import own_function
from trainers.specs import file_names
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.kinds import KINDS
from trainers.specs.optimizer import UNSHARDED
from trainers.tasks import benchmarks

Problems = Iterator[tuple[KeyPath, str]]

READ = ("stages", "evaluate", "search", "decide")
"""Parts of a grid that `across` looks at."""


def starts(data: dict[str, Any]) -> Problems:
    """Every start is `base` or another stage that leaves a policy, and following the starts ends at
    `base`. `data` are the stages as the file has them."""
    owners = {
        name: settings.get("start_from", BASE)
        for name, settings in data.items()
        if isinstance(settings, dict)
    }
    for name, start in owners.items():
        path = ("stages", name, "start_from")
        if not isinstance(start, str) or (start != BASE and start not in owners):
            others = ", ".join([BASE, *(other for other in owners if other != name)])
            yield path, f"{start!r}: use one of {others}"
            return
        kind = KINDS.get(str(data[start].get("kind"))) if start != BASE else None
        if kind is not None and kind.LEAVES == "reward":
            yield (
                path,
                f"{start!r} leaves a reward model, which judges texts and cannot be trained "
                f"further; start from what it starts from, {owners[start]}",
            )
    for name in owners:
        seen, at = [name], owners[name]
        while at != BASE and at not in seen:
            seen.append(at)
            at = owners[at]
        if at != BASE:
            yield ("stages", name, "start_from"), f"a circle: {' -> '.join(seen)}"


def across(
    stages: dict[str, Stage],
    evaluate: EvaluateSpec,
    search: Search | None,
    decide: Decide | None,
) -> Problems:
    """For parts that are right by themselves: a parent is chosen among several models by a score
    that they have; a benchmark of pairs has a reward model to score; data of the miniature world
    are of the form that the stage reads; arms hold the same rows out and share no cell; groups of
    completions are compared in one process; models are not too many; a search has one stage to
    choose cells of, which are no other stage's."""
    if search is not None or decide is not None:
        for path, message in cells.in_two_stages(stages):
            yield path, f"{message}: no cell to choose; leave it out of one of them"
    if search is not None:
        yield from choosing.searched(search, stages, evaluate)
    if decide is not None:
        yield from choosing.decided(decide, search, stages, evaluate)
    for name, stage in stages.items():
        yield from _data(name, stage)
        yield from cells.one_slice(stage)
        yield from cells.in_two_arms(stage)
        yield from cells.trained_twice(stage)
        yield from _ranks(name, stage)
        yield from _models(name, stage, stages)
        if stage.parent != EACH:
            yield from _parent(name, stage, stages, evaluate, search or decide)
    yield from _measured(stages, evaluate)
    yield from _items(evaluate)
    if any(stage.cells[0][1].LEAVES == "reward" for stage in stages.values()):
        return
    for index, benchmark in enumerate(evaluate.benchmarks):
        if benchmark in benchmarks.OF_STAGES:
            continue
        if benchmarks.find(benchmark).scores == "reward":
            path = ("evaluate", "benchmarks", index)
            message = f"{benchmark!r} is for reward models; no stage here is of the kind `reward`"
            yield path, message


def positions(model: str, stages: dict[str, Stage]) -> Problems:
    """Some models have learned a number of positions, beyond which they compute nothing."""
    if (most := at_hand.positions(model)) is None:
        return
    for name, stage in stages.items():
        for spec in (spec for _, spec in stage.cells if spec.longest_text > most):
            added = spec.longest_text - spec.max_length
            if added >= most:
                yield (
                    ("stages", name, "max_new_tokens"),
                    f"{added:,}: {model} has learned {most:,} positions, for the prompt too; give "
                    "fewer",
                )
                break
            allowed = f"with the {added:,} tokens it writes, at most" if added else "at most"
            yield (
                ("stages", name, "max_length"),
                f"{spec.max_length:,}: {model} has learned {most:,} positions; give {allowed} "
                f"{most - added:,}",
            )
            break


def prices(limits: Limits, price: Pricing, asked: Iterable[TrialResources]) -> Problems:
    """A limit of cost has an hour's price, and a price has something that it prices: `asked` are
    the resources of the grid and of its stages."""
    if limits.max_cost is not None and price.gpu_hour is None and price.cpu_hour is None:
        yield (
            ("limits", "max_cost"),
            f"{limits.max_cost:g}: what an hour costs is not known; give price: {{gpu_hour: 2.5}}, "
            "or cpu_hour",
        )
    on_gpu = any(resources.gpus_per_trial for resources in asked)
    if price.gpu_hour is not None and price.cpu_hour is None and not on_gpu:
        yield (
            ("price", "gpu_hour"),
            f"{price.gpu_hour:g}: trials ask for no GPU, so they would cost nothing; give "
            "price.cpu_hour, or resources.gpus_per_trial",
        )


def _measured(stages: dict[str, Stage], evaluate: EvaluateSpec) -> Problems:
    """A model that is scored on nothing would leave no row in any table."""
    listed = [name for name in evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    for name, stage in stages.items():
        spec = stage.cells[0][1]
        fitting = [name for name in listed if benchmarks.find(name).scores == spec.LEAVES]
        if not fitting and (spec.HELDOUT is None or spec.heldout == 0):
            yield (
                ("stages", name, "heldout"),
                "0, and no benchmark is for its models, so nothing would be measured; hold "
                "examples out, or name a benchmark",
            )
    if not stages and not listed:
        yield ("evaluate", "benchmarks"), "empty, so that nothing would be measured; name one"


def _items(evaluate: EvaluateSpec) -> Problems:
    """Local items are looked for before anything is trained."""
    for name in evaluate.benchmarks if evaluate.data_dir is not None else ():
        if name not in benchmarks.OF_STAGES:
            lacks = benchmarks.missing_items(benchmarks.find(name), evaluate)
            if lacks is not None:
                yield (
                    ("evaluate", "data_dir"),
                    f"{name}: {lacks.removeprefix('evaluate.data_dir: ')}",
                )


def _data(name: str, stage: Stage) -> Problems:
    """Other data show their form only when they are read, before any trial."""
    spec = stage.cells[0][1]
    forms = {name: sources.WORLD_FORMS.get(name, "texts") for name in sources.WORLD}
    for source in spec.sources:
        form = forms.get(source.name, spec.FORM)
        if form != spec.FORM:
            fitting = [name for name, its in forms.items() if its == spec.FORM]
            yield (
                ("stages", name, "data"),
                f"{source.name!r} holds {form} and a stage of the kind {spec.kind} reads "
                f"{spec.FORM}; use {' or '.join(fitting)}, or other data",
            )
    yield from _files(name, stage)
    parts = [problem for source in spec.sources if (problem := sources.part_problem(source))]
    yield from ((("stages", name, "data"), problem) for problem in parts)
    if not parts:
        yield from _enough(name, stage)


def _files(name: str, stage: Stage) -> Problems:
    """Chat templates and reward functions of the user's are there."""
    specs = [spec for _, spec in stage.cells]
    for key, path in file_names.given(specs, "file"):
        if not Path(path).is_file():
            yield ("stages", name, key), f"no file {path!r} (from {Path.cwd()})"
    for key, reward in file_names.given(specs, "function"):
        if problem := own_function.problem(reward):
            yield ("stages", name, key), problem


def _enough(name: str, stage: Stage) -> Problems:
    """Each cell has at least a whole batch to train on, as far as the data lies here."""
    reported = set()
    for arm, spec in stage.cells:
        try:
            rows = sources.total(spec.sources)
        except DataUnavailable as error:
            yield ("stages", name, "data"), str(error)
            return
        if rows is None:
            return
        problem = row_counts.too_few(spec, max(rows - spec.heldout_examples(rows), 0))
        if problem is None or problem in reported:
            continue
        reported.add(problem)
        held = f"{spec.heldout_examples(rows):,} of {rows:,} rows are held out"
        key = "batch_size" if rows > spec.heldout_examples(rows) else "data"
        path = stage.axis_place(key, arm) if key in stage.axes else ("stages", name, key)
        of_arm = f" (arm {arm})" if arm else ""
        yield path, f"{problem}; {held}{of_arm}"


def _ranks(name: str, stage: Stage) -> Problems:
    sharding = stage.resources.sharding
    if sharding == "none":
        return
    if any(adapters.in_4_bits(spec.adapter) for _, spec in stage.cells):
        yield (
            ("stages", name, "adapter"),
            f"base_weights: nf4 with sharding: {sharding}: weights in 4 bits are not divided; use "
            "base_weights: float32, or resources: {sharding: none}, which holds them on each GPU",
        )
    for optimizer in sorted({spec.optimizer for _, spec in stage.cells} & UNSHARDED.keys()):
        yield (
            ("stages", name, "optimizer"),
            f"{optimizer!r} with sharding: {sharding}: {UNSHARDED[optimizer]}; use adamw or sgd, "
            "or resources: {sharding: none}",
        )


def _models(name: str, stage: Stage, stages: dict[str, Stage]) -> Problems:
    """Stages multiply: where each model is a parent, each is the start of every cell."""
    starts = choosing.starts(stage, stages)
    if starts * len(stage.cells) > MAX_CELLS >= starts:
        yield (
            ("stages", name),
            f"{starts:,} models of {stage.start_from} x {len(stage.cells):,} cells; at most "
            f"{MAX_CELLS:,} are planned at once: start from one of them (`parent`)",
        )


def _parent(
    name: str,
    stage: Stage,
    stages: dict[str, Stage],
    evaluate: EvaluateSpec,
    chooser: Search | Decide | None,
) -> Problems:
    path = ("stages", name, "parent")
    if stage.start_from == BASE:
        yield path, f"{BASE} is one model; leave `parent` out"
        return
    if not isinstance(stage.parent, Best):
        return
    start = stages[stage.start_from]
    if chooser is not None and start.searched_axes:
        yield (
            path,
            f"`{type(chooser).__name__.lower()}` runs a part of {start.name}, so its best is known "
            "only at the end; run it first and give the parent's key",
        )
    allowed = choosing.measured(start, stages, evaluate)
    if not allowed:
        yield path, f"the models of {start.name} have no score; set its `heldout`"
    elif (best := stage.parent.best) is not None and not any(
        benchmarks.same(best, name) for name in allowed
    ):
        yield (*path, "best"), f"{best!r}: use one of {', '.join(allowed)}"
