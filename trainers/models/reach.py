"""Whether the adapters of a grid fit its model, and what they and Muon leave out of it, before
anything is trained.

A model whose layers are not known (shapes.py) is built without weights from its configuration on
this machine, in a process of its own (`python -m trainers.models.reach`, a request on stdin), whose
torch leaves with it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from trainers.models import at_hand, shapes
from trainers.processes import process
from trainers.specs.adapter import Adapter
from trainers.specs.fields import Strict
from trainers.specs.training import TrainingSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST = 0.5
"""Share of the weights of a model's layers; where more are left out, it is said."""


class Reach(NamedTuple):
    problems: list[str]
    """Why an adapter does not fit, a line each."""
    notes: list[str]
    """What is left out."""


class Request(Strict):
    folder: str
    """Of the model's configuration."""
    adapters: dict[str, tuple[Adapter, ...]]
    """By stage."""
    muon: bool
    """Whether a stage trains all weights with it."""


def reach(name: str, stages: Mapping[str, Iterable[TrainingSpec]]) -> Reach:
    """Of the trainings, by stage, of a named model; nothing of one that is not on this machine."""
    adapters: dict[str, tuple[Adapter, ...]] = {}
    muon = False
    for stage, specs in stages.items():
        own = dict.fromkeys(spec.adapter for spec in specs if spec.adapter is not None)
        adapters |= {stage: tuple(own)} if own else {}
        muon |= any(spec.adapter is None and spec.optimizer == "muon" for spec in specs)
    shape, folder = shapes.shape(name), at_hand.folder(name)
    if shape is not None:
        return Reach(list(_lacking(name, shape, adapters)), [])
    if folder is None or not (adapters or muon):
        return Reach([], [])
    run = subprocess.run(
        [sys.executable, "-m", "trainers.models.reach"],
        input=Request(folder=str(folder), adapters=adapters, muon=muon).model_dump_json(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["it left no message"]
        return Reach(
            [], [f"whether adapters and Muon fit {name} could not be looked at: {last[0]}"]
        )
    return Reach(*json.loads(run.stdout.splitlines()[-1]))


def _lacking(
    model: str, shape: shapes.Shape, adapters: Mapping[str, tuple[Adapter, ...]]
) -> Iterator[str]:
    """Names of targets that are no module of such a model; longer ones are left to training."""
    for stage, each in adapters.items():
        named = dict.fromkeys(target for adapter in each for target in adapter.names)
        missing = [name for name in named if "." not in name and name not in shape.linear]
        if missing:
            yield (
                f"stages.{stage}.adapter.targets: {model} has no linear module "
                f"{', '.join(missing)}; it has {', '.join(shape.linear)}"
            )


def main() -> int:
    process.go_offline()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    request = Request.model_validate_json(sys.stdin.read())
    try:
        config = AutoConfig.from_pretrained(request.folder, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        told = f"model: {request.folder} cannot be built from its configuration: {error}"
        print(json.dumps(Reach([told], [])))
        return 0
    print(json.dumps(Reach(list(_problems(model, request)), list(_notes(model, request)))))
    return 0


def _problems(model: "PreTrainedModel", request: Request) -> Iterator[str]:
    from trainers.models import adapters

    for stage, each in request.adapters.items():
        for adapter in each:
            try:
                adapters.check(model, adapter)
            except ValueError as error:
                yield f"stages.{stage}.{error}"


def _notes(model: "PreTrainedModel", request: Request) -> Iterator[str]:
    share, names = stacked(model)
    if share <= MOST:
        return
    kept = [adapter for each in request.adapters.values() for adapter in each]
    left = []
    if kept:
        left.append("no adapter is put on them, and they are not trained")
    if any(adapter.in_4_bits for adapter in kept):
        left.append("`base_weights: nf4` leaves them in float32")
    if request.muon:
        left.append("`optimizer: muon` trains them with AdamW")
    yield (
        f"{share:.0%} of the weights of the layers of {type(model).__name__} are not in matrices "
        f"of their own but in stacks of them, as experts are ({', '.join(names)}): "
        f"{'; '.join(left)}"
    )


def stacked(model: "PreTrainedModel") -> tuple[float, list[str]]:
    """The share of the weights below `base_model`, but for embeddings, that lie in parameters of
    three axes, and the last two parts of their names."""
    import torch

    tables = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    }
    weights = {n: p for n, p in model.base_model.named_parameters() if id(p) not in tables}
    whole = sum(weight.numel() for weight in weights.values())
    stacks = {name: weight for name, weight in weights.items() if weight.ndim > 2}
    names = dict.fromkeys(".".join(name.split(".")[-2:]) for name in stacks)
    return sum(weight.numel() for weight in stacks.values()) / whole, list(names)


if __name__ == "__main__":
    sys.exit(main())
