"""Grid -> every trial to run, with its key and what it will cost. Pure: no torch, no ray, no
network."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from sweep.gridfile.keys.axes import NESTED, RATIO
from sweep.gridfile.keys.schema import BASE, REFERENCE, ArmAxes, Best, Grid, Stage
from sweep.plan.order import coarse_first
from trainers.data.row_counts import Counts
from trainers.data.rows import sources
from trainers.models import at_hand, shapes
from trainers.specs.data import Model
from trainers.specs.fields import Strict
from trainers.specs.identity import identity
from trainers.specs.kinds import StageSpec
from trainers.specs.optimizer import state_bytes
from trainers.specs.training import TrainingSpec

KEY_LENGTH = 12
SHOWN_NAME = 64
"""Characters of a model's name in a folder's."""
BYTES_PER_PARAMETER = 4
"""Weights are kept in float32."""

NONE_CHOSEN: Mapping[str, str] = MappingProxyType({})


class Trial(Strict):
    """One training, or (stages `base` and `reference`) a model as it is.

    `key` hashes what is declared to decide the weights: model, spec and the parent's key.
    """

    key: str
    parent: str | None
    """None of a model as it is, and while it is to be chosen."""
    stage: str
    arm: str
    model: Model
    spec: StageSpec | None
    waits: Annotated[str, Field(exclude_if=lambda waits: not waits)] = ""
    """The choice that the trial, or one that it starts from, waits for, in words; its key will be
    another one."""

    settings: Annotated[str, Field(exclude=True)] = ""
    """Its values of the axes beyond learning rate, batch size and seed, for eyes only."""
    kept_in: Annotated[str, Field(exclude=True)] = ""
    """The folder that an earlier plan gave it, as another stage or arm (`RunFolder.kept`)."""

    @property
    def label(self) -> str:
        """The arm with the settings, which tell its cells from those of other values."""
        return ", ".join(part for part in (self.arm, self.settings) if part)

    @property
    def readable(self) -> str:
        """For eyes only, never parsed."""
        if self.spec is None:
            name = re.sub(r"[^A-Za-z0-9._]+", "-", PurePath(self.model.name).name)[:SHOWN_NAME]
            return self.stage if self.stage == BASE else f"{self.stage}-{name}"
        parts = [self.stage, f"lr{self.spec.learning_rate:.2e}", f"bs{self.spec.batch_size}"]
        return "-".join([*parts, f"seed{self.spec.seed}", *([self.arm] if self.arm else [])])

    @property
    def title(self) -> str:
        """In a line, for a dashboard."""
        if self.spec is None:
            return f"{self.readable} (untrained)"
        parts = [self.stage, f"lr {self.spec.learning_rate:.3g}", f"bs {self.spec.batch_size}"]
        return " ".join([*parts, f"seed {self.spec.seed}", *([self.label] if self.label else [])])

    @property
    def folder(self) -> str:
        return self.kept_in or f"{self.readable}-{self.key}"

    @property
    def keeps_adapter(self) -> bool:
        """Whether the adapter alone is kept: on weights that may be removed, or under a reward
        model's head, it is merged (sweep/execution/worker/trial.py)."""
        spec = self.spec
        if spec is None or spec.adapter is None or spec.LEAVES != "policy":
            return False
        return self.parent == _key(self.model, None, None)

    @property
    def lr_bs_ratio(self) -> float | None:
        return None if self.spec is None else self.spec.learning_rate / self.spec.batch_size


class Cost(NamedTuple):
    """What a trial is expected to take; None where only the hub knows the data's or the model's
    size, or where the lengths of the examples decide the steps."""

    steps: int | None
    examples: int | None
    disk_bytes: int | None
    """Of what stays when it has ended: its weights, or its adapter alone."""
    checkpoint_bytes: int | None = 0
    """Of one checkpoint: the weights that are trained, and the optimizer's state."""


def trials(grid: Grid, chosen: Mapping[str, str] = NONE_CHOSEN) -> list[Trial]:
    """Every trial once, in the order to run: parents before children, coarse cells first.

    `chosen` has the key of the parent of each stage with `parent: best` for which it is known.

    Raises:
        ValueError: a stage's `parent` is a key that no model of its start has.
    """
    stages = by_stage(grid, chosen).values()
    return list({trial.key: trial for trials in stages for trial in trials}.values())


def by_stage(grid: Grid, chosen: Mapping[str, str] = NONE_CHOSEN) -> dict[str, list[Trial]]:
    """The trials of each stage, those among them that it shares with an earlier one; `Trial.stage`
    is that one.

    Raises:
        ValueError: as `trials`.
    """
    base = _as_it_is(grid.model, BASE)
    references = [_as_it_is(model, REFERENCE) for model in grid.references]
    planned: dict[str, list[Trial]] = {BASE: [base], REFERENCE: references}
    known: dict[str, Trial] = {base.key: base}
    for name in stage_order(grid):
        stage = grid.stages[name]
        varied = {arm.name: _varied(arm) for arm in stage.arms}
        by_key: dict[str, Trial] = {}
        for parent, waits in _parents(stage, planned[stage.start_from], chosen.get(name)):
            for arm, spec in stage.cells:
                key = _key(grid.model, spec, waits if parent is None else parent.key)
                trial = Trial(
                    key=key,
                    parent=None if parent is None else parent.key,
                    stage=name,
                    arm=arm,
                    model=grid.model,
                    spec=spec,
                    waits=waits,
                    settings=values_of(spec, varied[arm]),
                )
                by_key[key] = known.setdefault(key, trial)
        planned[name] = _ordered(list(by_key.values()))
    return planned


def _as_it_is(model: Model, stage: str) -> Trial:
    key = _key(model, None, None)
    return Trial(key=key, parent=None, stage=stage, arm="", model=model, spec=None)


def _parents(
    stage: Stage, starts: list[Trial], chosen: str | None
) -> list[tuple[Trial | None, str]]:
    """The models that a stage starts from, each with what it waits for; None where that is which
    model."""
    match stage.parent:
        case Best(best=benchmark):
            matching = [start for start in starts if start.key == chosen]
            by = f" by {benchmark}" if benchmark else ""
            return [(parent, "") for parent in matching] or [
                (None, f"the best of {stage.start_from}{by}")
            ]
        case "each":
            return [(start, start.waits) for start in starts]
        case key:
            matching = [start for start in starts if start.key.startswith(key)]
            if len(matching) != 1:
                what = "no model" if not matching else f"{len(matching)} models"
                keys = ", ".join(start.key for start in starts[:4])
                more = ", ..." if len(starts) > 4 else ""
                raise ValueError(
                    f"stages.{stage.name}.parent: {key!r}: {what} of {stage.start_from} "
                    f"with such a key; its keys are {keys}{more} (plan.csv has them all)"
                )
            return [(matching[0], matching[0].waits)]


def _varied(arm: ArmAxes) -> list[str]:
    """Its axes beyond learning rate, batch size and seed."""
    plain = {"learning_rate", "batch_size", "seed", RATIO}
    return [name for name, values in arm.axes.items() if name not in plain and len(values) > 1]


def values_of(spec: TrainingSpec, names: list[str]) -> str:
    """adapter.rank=8, weight_decay=0.1: as the report names the arms of such axes."""
    return ", ".join(f"{name}={_value(spec, name)}" for name in names)


def _value(spec: TrainingSpec, name: str) -> Any:
    outer, _, inner = name.partition(NESTED)
    value = getattr(spec, outer)
    return getattr(value, inner, None) if inner else value


def _ordered(trials: list[Trial]) -> list[Trial]:
    """Arm after arm, each coarse first over its own axes."""
    arms: dict[tuple[str | None, str], list[Trial]] = {}
    for trial in trials:
        arms.setdefault((trial.parent, trial.arm), []).append(trial)
    return [arm[index] for arm in arms.values() for index in coarse_first(list(map(_cell, arm)))]


def _cell(trial: Trial) -> tuple[float, float]:
    assert trial.spec is not None, "every cell is trained"
    return trial.spec.learning_rate, trial.spec.batch_size


def stage_order(grid: Grid) -> Iterator[str]:
    """Stages with each one's start before it."""
    placed = {BASE}
    while len(placed) <= len(grid.stages):
        for name, stage in grid.stages.items():
            if name not in placed and stage.start_from in placed:
                placed.add(name)
                yield name


def line_of(planned: list[Trial], prefix: str) -> frozenset[str]:
    """Keys of the one trial whose key begins with `prefix`, and of all that it starts from.

    Raises:
        ValueError: no trial, or several, have such a key.
    """
    by_key = {trial.key: trial for trial in planned}
    matching = [key for key in by_key if key.startswith(prefix)]
    if len(matching) != 1:
        what = "no trial has" if not matching else f"{len(matching)} trials have"
        raise ValueError(f"{what} a key that begins with {prefix!r}")
    line, at = set(), by_key[matching[0]]
    if at.waits:
        raise ValueError(f"{matching[0]} waits for {at.waits}; it has its key when that is chosen")
    while at is not None:
        line.add(at.key)
        at = by_key[at.parent] if at.parent else None
    return frozenset(line)


def cost(trial: Trial, prepared: Counts | None = None) -> Cost:
    """`prepared` has the rows that are there to train on, once they were tokenised."""
    if trial.spec is None:
        return Cost(0, 0, 0, 0)
    rows = sources.total(trial.spec.sources)
    parameters = at_hand.parameters(trial.model.name)
    steps = trial.spec.steps
    examples = None
    train_rows = None if rows is None else max(rows - trial.spec.heldout_examples(rows), 0)
    if prepared is not None:
        train_rows = prepared.train
    if trial.spec.tokens is not None:
        if prepared is not None:  # close: a step ends where its examples do
            per_step = prepared.tokens_per_example * trial.spec.batch_size
            steps = math.ceil(trial.spec.tokens / per_step)
            examples = steps * trial.spec.batch_size
    elif train_rows is not None:
        steps = trial.spec.optimizer_steps(train_rows)
        examples = trial.spec.examples_after(steps, train_rows)
    trained = shapes.trained(trial.model.name, trial.spec)
    kept = trained if trial.keeps_adapter else parameters
    disk = None if kept is None else kept * BYTES_PER_PARAMETER
    checkpoint = None
    if trained is not None:
        in_tables = shapes.trained_tables(trial.model.name, trial.spec)
        states = state_bytes(trial.spec.optimizer, trained, in_tables)
        checkpoint = math.ceil(BYTES_PER_PARAMETER * trained + states)
    return Cost(steps, examples, disk, checkpoint)


def _key(model: Model, spec: TrainingSpec | None, parent: str | None) -> str:
    declared = {
        "model": model.model_dump(),
        "spec": identity(spec) if spec is not None else None,
        "parent": parent,
    }
    text = json.dumps(declared, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
