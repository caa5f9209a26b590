"""The text of a new grid file: axes round the published optimum, sized to GPUs and hours."""

import math
import os
import textwrap
from pathlib import Path
from typing import NamedTuple

from sweep.plan import starting_points
from sweep.plan.starting_points import KINDS, STEP_LAW
from trainers import devices
from trainers.data.rows import sources
from trainers.models import at_hand
from trainers.specs.data import DataSpec

SCHEMA = Path(__file__).parents[1] / "grids" / "grid.schema.json"

LADDER = ((5, 3, 1), (5, 4, 1), (6, 4, 1), (7, 5, 1), (7, 5, 2), (8, 6, 2), (10, 6, 2))
"""Learning rates, batch sizes, seeds: the rates span two octaves more than the batch sizes, or a
ratio's optimum lies outside at the ends."""

GPU_FLOPS = 9.9e14
UTILISATION = 0.3
GPU_SOURCE = "an H100's 990 TFLOP/s in bfloat16, of which matrix products reach 0.3: a guess"
CORE_FLOPS = 1.0e11
"""Of a CPU core in float32: SmolLM2-135M trains at 227 tokens in 1.8 s on one."""

TRAINING_SHARE = 0.5
"""Of the hours; the rest is for scores, start-up and what was guessed wrong."""

FEWEST_STEPS = 200
"""At the largest batch size; below it a rate is hardly tried."""


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


class _Size(NamedTuple):
    rates: int
    batches: int
    seeds: int
    tokens: float
    """Of each trial."""

    @property
    def trials(self) -> int:
        return self.rates * self.batches * self.seeds


def text(wanted: Wanted) -> str:
    """A whole grid file."""
    kind = KINDS[wanted.kind]
    known = wanted.parameters or at_hand.parameters(wanted.model)
    parameters = known or starting_points.ANCHOR_PARAMETERS
    middle = starting_points.centre(wanted.kind, parameters)
    rows, per_example = _rows(wanted)
    share = 1.0 if wanted.gpus and parameters > 5e8 else 0.5
    at_once = int(wanted.gpus / share) if wanted.gpus else max(1, devices.cores())
    flops = GPU_FLOPS * UTILISATION * share if wanted.gpus else CORE_FLOPS
    size = _size(wanted, middle.batch_size, rows, per_example, flops * at_once, parameters)
    low, high = _octaves(middle.batch_size, size.batches, 16 if wanted.kind == "rlvr" else 2)
    octaves = max(size.rates - 1, size.batches + 1)
    span = 2.0 ** (octaves / 2)
    hours = 6 * parameters * size.tokens * size.trials / (flops * at_once) / 3600
    source = GPU_SOURCE if wanted.gpus else f"{CORE_FLOPS:.0e} FLOP/s a core"
    lines = [
        f"# yaml-language-server: $schema={os.path.relpath(SCHEMA, Path(wanted.file).parent)}",
        f"# python -m sweep.run {wanted.file}"
        f"          {size.rates} x {size.batches} x {size.seeds} = {size.trials} trials",
        f"# Written by sweep.new for {_place(wanted)} and {wanted.hours:g} hours.",
        *_comment(f"Middle of the axes: {kind.source}; their geometric mean."),
        *_comment(f"At {parameters / 1e6:,.0f} M parameters by {STEP_LAW}."),
        *([] if known else ["# The model's size is not known here and was taken for 1.7e9."]),
        *_comment(
            f"Training alone: about {hours:.1f} hours, with {source}; --calibrate measures it."
        ),
        f"name: {wanted.name}",
        f"model: {wanted.model}",
        "stages:",
        f"  {wanted.kind}:",
        f"    kind: {wanted.kind}",
        f"    data: {{name: {wanted.data}{_examples(wanted, size, rows, per_example)}}}",
        *_budget(wanted, size, rows, per_example),
        *(f"    {key}" for key in kind.keys),
        f"    # these settings: {kind.keys_source}",
        '    keep: best   # other weights go after scoring; "all" lets you add a benchmark later',
        "    grid:",
        f"      learning_rate: {{log: [{middle.learning_rate / span:.3g}, "
        f"{middle.learning_rate * span:.3g}], count: {size.rates}}}   # {octaves} octaves",
        f"      batch_size: {{log2: [{low}, {high}]}}",
        f"      seed: {list(range(size.seeds))}",
        f"evaluate: {{benchmarks: [{', '.join(wanted.benchmarks)}]}}",
        *_resources(wanted, share, per_example),
    ]
    return "\n".join(lines) + "\n"


def _comment(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, 98, initial_indent="# ", subsequent_indent="# ")


def _place(wanted: Wanted) -> str:
    return f"{wanted.gpus} GPU{'s' * (wanted.gpus != 1)}" if wanted.gpus else "CPUs"


def _rows(wanted: Wanted) -> tuple[int | None, float]:
    """Rows of the data where that is known here, and tokens of one."""
    guess = float(KINDS[wanted.kind].tokens_per_example)
    rows = sources.total((DataSpec(name=wanted.data),))
    path = Path(wanted.data)
    if rows and path.is_file() and path.suffix in (".jsonl", ".json"):
        guess = min(path.stat().st_size / rows / 4, 2048.0)
    if rows and wanted.examples:
        rows = min(rows, wanted.examples)
    return rows or wanted.examples, guess


def _size(
    wanted: Wanted,
    batch: int,
    rows: int | None,
    per_example: float,
    flops: float,
    parameters: float,
) -> _Size:
    """The largest grid whose trials have enough steps each, in the hours."""
    training = wanted.hours * 3600 * TRAINING_SHARE * flops / (6 * parameters)
    if wanted.kind == "rlvr":
        training /= 6  # what is written costs more than what is trained on
    whole = rows * per_example if rows else math.inf
    chosen = None
    for rates, batches, seeds in LADDER:
        tokens = min(training / (rates * batches * seeds), whole)
        least = FEWEST_STEPS * _octaves(batch, batches, 2)[1] * per_example
        if chosen is None or tokens >= min(least, whole):
            chosen = _Size(rates, batches, seeds, tokens)
    assert chosen is not None
    return chosen


def _octaves(middle: int, count: int, least: int) -> tuple[int, int]:
    """A range of `count` powers of two round the middle."""
    low = max(least, int(middle / 2 ** ((count - 1) // 2)))
    return low, low * 2 ** (count - 1)


def _examples(wanted: Wanted, size: _Size, rows: int | None, per_example: float) -> str:
    """Rows for one pass of the budget, so that not all of a large hub data set is prepared."""
    needed = math.ceil(1.2 * size.tokens / per_example) + 400
    if wanted.examples or rows is None or needed < rows:
        given = min(wanted.examples or needed, needed)
        return f", examples: {min(given, rows) if rows else given}"
    return ""


def _budget(wanted: Wanted, size: _Size, rows: int | None, per_example: float) -> list[str]:
    if wanted.kind == "rlvr" or (rows and size.tokens >= rows * per_example):
        return ["    epochs: 1"]
    return [f"    tokens: {_round(size.tokens)}   # a trial, the same for all cells"]


def _round(tokens: float) -> int:
    digits = max(len(str(int(tokens))) - 2, 0)
    return max(round(tokens / 10**digits) * 10**digits, 1)


def _resources(wanted: Wanted, share: float, per_example: float) -> list[str]:
    if not wanted.gpus:
        return ["resources: {cpus_per_trial: 1}"]
    return [
        f"resources: {{gpus_per_trial: {share:g}, cpus_per_trial: 4}}",
        f"price: {{tokens_per_example: {per_example:.0f}, utilisation: {UTILISATION}, "
        f"device_flops: {GPU_FLOPS * share:.3g}}}",
    ]
