"""The text of a new grid file: axes round the published optimum, of a given size."""

import math
import os
import textwrap
from pathlib import Path
from typing import NamedTuple

from sweep.plan import starting_points
from sweep.plan.starting_points import PUBLISHED, STEP_LAW
from trainers.data.rows import sources
from trainers.models import at_hand
from trainers.specs.conditions import Sharding
from trainers.specs.data import DataSpec

SCHEMA = Path(__file__).parents[1] / "grids" / "grid.schema.json"

GPU_FLOPS = 9.9e14
UTILISATION = 0.3
GPU_SOURCE = "an H100's 990 TFLOP/s in bfloat16, of which matrix products reach 0.3: a guess"
CORE_FLOPS = 1.0e11
"""Of a CPU core in float32: SmolLM2-135M trains at 227 tokens in 1.8 s on one."""

GROUP_SIZE = 8
"""Completions of a prompt, as the keys of `rlvr` have it."""


class Wanted(NamedTuple):
    name: str
    kind: str
    model: str
    data: str
    examples: int | None
    benchmarks: list[str]
    gpus: int
    hours: float
    parameters: float | None
    file: str

    @property
    def size(self) -> float:
        """Parameters of the model, or what they are taken for."""
        known = self.parameters or at_hand.parameters(self.model)
        return known or starting_points.ANCHOR_PARAMETERS

    @property
    def batch_size(self) -> int:
        """In the middle of the axis."""
        return starting_points.centre(self.kind, self.size).batch_size

    def sizes(self, count: int) -> tuple[int, int]:
        """The least and the largest of so many batch sizes, powers of two round the middle."""
        least = 16 if self.kind == "rlvr" else 2
        low = max(least, int(self.batch_size / 2 ** ((count - 1) // 2)))
        return low, low * 2 ** (count - 1)


class Data(NamedTuple):
    """What is known of the data here: examples in one pass, completions of RLVR, and the tokens of
    one."""

    examples: int | None
    per_example: float

    @property
    def tokens(self) -> float:
        return self.examples * self.per_example if self.examples else math.inf


class Place(NamedTuple):
    """What a trial gets."""

    gpus: float
    sharding: Sharding = "none"


class Size(NamedTuple):
    rates: int
    batches: int
    seeds: int
    tokens: float
    """Of each trial."""
    limit: int | None = None
    """Items of each task."""

    @property
    def trials(self) -> int:
        return self.rates * self.batches * self.seeds


def text(wanted: Wanted, data: Data, size: Size, place: Place, notes: list[str]) -> str:
    """A whole grid file; `notes` are sentences of its head."""
    kind = PUBLISHED[wanted.kind]
    middle = starting_points.centre(wanted.kind, wanted.size)
    low, high = wanted.sizes(size.batches)
    octaves = max(size.rates - 1, size.batches + 1)
    span = 2.0 ** (octaves / 2)
    known = wanted.parameters or at_hand.parameters(wanted.model)
    lines = [
        f"# yaml-language-server: $schema={os.path.relpath(SCHEMA, Path(wanted.file).parent)}",
        f"# python -m sweep.run {wanted.file}"
        f"          {size.rates} x {size.batches} x {size.seeds} = {size.trials} trials",
        f"# Written by sweep.new for {_machine(wanted)} and {wanted.hours:g} hours.",
        *_comment(f"Middle of the axes: {kind.source}; their geometric mean."),
        *_comment(f"At {wanted.size / 1e6:,.0f} M parameters by {STEP_LAW}."),
        *([] if known else ["# The model's size is not known here and was taken for 1.7e9."]),
        *(line for note in notes for line in _comment(note)),
        f"name: {wanted.name}",
        f"model: {wanted.model}",
        "stages:",
        f"  {wanted.kind}:",
        f"    kind: {wanted.kind}",
        f"    data: {{name: {wanted.data}{_examples(wanted, size, data)}}}",
        *_budget(wanted, size, data),
        *(f"    {key}" for key in kind.keys),
        f"    # these settings: {kind.keys_source}",
        '    keep: best   # other weights go after scoring; "all" lets you add a benchmark later',
        "    grid:",
        f"      learning_rate: {{log: [{middle.learning_rate / span:.3g}, "
        f"{middle.learning_rate * span:.3g}], count: {size.rates}}}   # {octaves} octaves",
        f"      batch_size: {{log2: [{low}, {high}]}}",
        f"      seed: {list(range(size.seeds))}",
        f"evaluate: {{benchmarks: [{', '.join(wanted.benchmarks)}]"
        f"{'' if size.limit is None else f', limit: {size.limit}'}}}",
        *_resources(place, data.per_example),
    ]
    return "\n".join(lines) + "\n"


def _comment(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, 98, initial_indent="# ", subsequent_indent="# ")


def _machine(wanted: Wanted) -> str:
    return f"{wanted.gpus} GPU{'s' * (wanted.gpus != 1)}" if wanted.gpus else "CPUs"


def known_data(wanted: Wanted) -> Data:
    """Rows of the data where that is known here, and tokens of one."""
    guess = float(PUBLISHED[wanted.kind].tokens_per_example)
    rows = sources.total((DataSpec(name=wanted.data),))
    path = Path(wanted.data)
    if rows and path.is_file() and path.suffix in (".jsonl", ".json"):
        guess = min(path.stat().st_size / rows / 4, 2048.0)
    if rows and wanted.examples:
        rows = min(rows, wanted.examples)
    rows = rows or wanted.examples
    return Data(rows and rows * _each(wanted), guess)


def _each(wanted: Wanted) -> int:
    """Examples of a row."""
    return GROUP_SIZE if wanted.kind == "rlvr" else 1


def _examples(wanted: Wanted, size: Size, data: Data) -> str:
    """Rows for one pass of the budget, so that not all of a large hub data set is prepared."""
    trained = math.ceil(size.tokens / data.per_example / _each(wanted))
    needed = trained if wanted.kind == "rlvr" else math.ceil(1.2 * trained) + 400
    rows = data.examples and data.examples // _each(wanted)
    if wanted.examples or rows is None or needed < rows:
        given = min(wanted.examples or needed, needed)
        return f", examples: {min(given, rows) if rows else given}"
    return ""


def _budget(wanted: Wanted, size: Size, data: Data) -> list[str]:
    if wanted.kind == "rlvr" or size.tokens >= data.tokens:
        return ["    epochs: 1"]
    return [f"    tokens: {_round(size.tokens)}   # a trial, the same for all cells"]


def _round(tokens: float) -> int:
    digits = max(len(str(int(tokens))) - 2, 0)
    return max(round(tokens / 10**digits) * 10**digits, 1)


def _resources(place: Place, per_example: float) -> list[str]:
    flops, used = (GPU_FLOPS * place.gpus, UTILISATION) if place.gpus else (CORE_FLOPS, 1.0)
    shared = "" if place.sharding == "none" else f", sharding: {place.sharding}"
    asked = (
        f"gpus_per_trial: {place.gpus:g}, cpus_per_trial: 4" if place.gpus else "cpus_per_trial: 1"
    )
    return [
        f"resources: {{{asked}{shared}}}",
        f"price: {{tokens_per_example: {per_example:.0f}, utilisation: {used:g}, "
        f"device_flops: {flops:.3g}}}",
    ]
