"""What the trainings of a plan hold in the memory of GPUs, and which sharding fits which card.

python -m sweep.terminal.memory HuggingFaceTB/SmolLM2-1.7B allenai/Llama-3.1-Tulu-3-8B
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence

from sweep.gridfile.keys.schema import BASE, Grid
from sweep.plan.memory import (
    CARDS,
    FEWEST,
    GPUS,
    Memory,
    by_sharding,
    memory,
    of_scoring,
)
from sweep.plan.trials import Trial
from trainers.models import adapters
from trainers.specs.training import SftSpec, TrainingSpec

SMALL = 24
"""GB; a training that fits such a GPU is not asked how it might be sharded."""

PRINTED = (1, 2, 8)
"""GPUs of a trial, the columns of the printed tables."""

PLAIN = {"kind": "sft", "data": "world:sft", "learning_rate": 1.0, "batch_size": 1, "epochs": 1.0}


def lines(grid: Grid, planned: list[Trial], lanes: Mapping[str, int]) -> Iterator[str]:
    """Of the stages' largest trainings, where trials ask for GPUs; `lanes` says of each trial how
    many are trained in one pass."""
    largest: dict[str, tuple[Memory, Trial]] = {}
    for trial in planned:
        resources = grid.trial_resources(trial.stage)
        held = memory(trial, resources.sharding, resources.ranks)
        if held is not None and resources.gpus_per_trial:
            held = held.of_lanes(lanes[trial.key])
            before = largest.get(trial.stage)
            if before is None or held.least > before[0].least:
                largest[trial.stage] = held, trial
    shares = {stage: grid.trial_resources(stage).gpus_per_trial for stage in largest}
    of_stages = [(held, min(shares[stage], 1.0)) for stage, (held, _) in largest.items()]
    for held, share in dict.fromkeys(of_stages):
        stages = [
            stage for stage, one in zip(largest, of_stages, strict=True) if one == (held, share)
        ]
        yield (
            f"memory: {held.held / 1e9:,.1f} GB on each GPU of a trial ({', '.join(stages)}), and "
            f"{held.per_token * FEWEST / 1e9:,.1f} GB for each {FEWEST:,} tokens of a micro-batch "
            f"(an example has up to {held.longest:,}); {_card(held, share)} (estimated)"
        )
    yield from _whole(grid, [trial for _, trial in largest.values()])
    large = {trial.model.name: trial for held, trial in largest.values() if _is_large(trial)}
    for model, trial in large.items():
        assert trial.spec is not None
        yield f"{model}: GB on each GPU (smallest card) by resources.sharding and GPUs of a trial"
        in_4_bits = trial.keeps_adapter and adapters.in_4_bits(trial.spec.adapter)
        for row in table(model, trial.spec, in_4_bits=in_4_bits):
            yield "".join(
                cell.ljust(11) if n == 0 else cell.rjust(11) for n, cell in enumerate(row)
            )


def _whole(grid: Grid, trials: Sequence[Trial]) -> Iterator[str]:
    """Of scoring models that are not in 4 bits, beside trainings that are."""
    in_4_bits = [trial for trial in trials if trial.spec and adapters.in_4_bits(trial.spec.adapter)]
    merged = [trial.stage for trial in in_4_bits if not trial.keeps_adapter]
    held = of_scoring(grid.model.name)
    if in_4_bits and held is not None:
        yield (
            f"memory: {held.least / 1e9:,.1f} GB to score models that are not in 4 bits "
            f"({', '.join([BASE, *merged])}); {_card(held)} (estimated)"
        )


def _is_large(trial: Trial) -> bool:
    held = memory(trial)
    card = held and held.card()
    return held is not None and (card is None or card > SMALL)


def _card(held: Memory, share: float = 1.0) -> str:
    """The smallest card, of which a trial may have a share alone."""
    card, part = held.card(share), f", of which a trial has {share:g}" if share < 1 else ""
    return f"fits a GPU of {card} GB{part}" if card else f"more than {CARDS[-1]} GB{part}"


def table(
    model: str, spec: TrainingSpec, gpus: Sequence[int] = GPUS, in_4_bits: bool = False
) -> Iterator[list[str]]:
    """Rows of cells, first the head: what a training takes with its smallest micro-batches, and
    last what scoring its model takes, which may be left `in_4_bits`."""
    yield ["sharding", *(f"{number} GPU{'s' * (number > 1)}" for number in gpus)]
    for sharding, by_gpus in by_sharding(model, spec).items():
        yield [sharding, *(_cell(by_gpus.get(number)) for number in gpus)]
    yield ["(scoring)", *[_cell(of_scoring(model, spec if in_4_bits else None))] * len(gpus)]


def _cell(held: Memory | None) -> str:
    if held is None:
        return "-"
    return f"{held.least / 1e9:,.1f} ({held.card() or 'none'})"


def main(arguments: list[str] | None = None) -> None:
    """Print a table of each model in Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.terminal.memory", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a hub id or a folder")
    spec = SftSpec.model_validate(PLAIN)
    for model in parser.parse_args(arguments).models:
        print(f"\n**{model}**\n")
        for number, row in enumerate(table(model, spec, PRINTED)):
            print(f"| {' | '.join(row)} |")
            if number == 0:
                print("|---" + "|---:" * len(PRINTED) + "|")


if __name__ == "__main__":
    main()
