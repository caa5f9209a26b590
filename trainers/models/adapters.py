"""Low-rank adapters on a model, by PEFT: put on, written, put back on, merged.

An adapter lies in a folder as PEFT has it (adapter_config.json, adapter_model.safetensors), beside
the tokenizer. The model stays a transformers model whose linear modules PEFT has wrapped, so that
packing, losses and TRL's trainers see what they know.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.specs.adapter import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"

ATTENTION = ("attn", "attention")
"""Parts of the names of modules that hold the linear modules of attention."""


def attach(model: "PreTrainedModel", adapter: Adapter, seed: int) -> None:
    """Freeze the model's weights and put a fresh adapter on it; a reward model's head, which is
    drawn anew too, is still trained. Weights of A depend on `seed` alone.

    Raises:
        ValueError: no module of the model has a name among the targets.
    """
    import torch
    from peft import LoraConfig

    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]  (any number does)
        lora_dropout=adapter.dropout,
        target_modules=_targets(model, adapter),
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.add_adapter(config)
    head: Any = getattr(model, "score", None)
    if isinstance(head, torch.nn.Module):
        head.requires_grad_(True)
    set_dropout(model, adapter.dropout)


def _targets(model: "PreTrainedModel", adapter: Adapter) -> list[str]:
    """Last names of the modules; embeddings and heads are not in `base_model`, or not linear."""
    import torch

    linear = {  # last name -> whether it is of attention
        name.rpartition(".")[2]: any(part in name for part in ATTENTION)
        for name, module in model.base_model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    match adapter.targets:
        case tuple(named):
            missing = [name for name in named if name not in linear]
            targets = named
        case kind:
            targets = [
                name
                for name, of_attention in linear.items()
                if kind in ("all_linear", "attention" if of_attention else "mlp")
            ]
            missing = [] if targets else [kind]
    if missing:
        raise ValueError(
            f"adapter.targets: {type(model).__name__} has no linear module {', '.join(missing)}; "
            f"it has {', '.join(linear)}"
        )
    return list(targets)


def set_dropout(model: "PreTrainedModel", share: float) -> None:
    """Of the adapter; TRL switches it off with the model's own."""
    import torch
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for module in layer.lora_dropout.values():
                if isinstance(module, torch.nn.Dropout):
                    module.p = share


def attached(model: "PreTrainedModel") -> bool:
    return bool(getattr(model, "_hf_peft_config_loaded", False))


@contextmanager
def off(model: "PreTrainedModel") -> Iterator[None]:
    """While open, the model computes what it would without its adapter."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def merge(model: "PreTrainedModel") -> None:
    """Add the adapter to the weights, W + scale * B A in float32: the same function to rounding, at
    the cost of the model alone. Without an adapter nothing happens."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not attached(model):
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            layer.merge(safe_merge=False)
            model.set_submodule(name, layer.get_base_layer())
    model._hf_peft_config_loaded = False
    vars(model).pop("peft_config", None)
    model.requires_grad_(True)


def save(model: "PreTrainedModel", folder: Path, base: str, revision: str | None) -> None:
    """Write the adapter alone, or the model where it has none; `base` names the model that it
    belongs on."""
    model.save_pretrained(folder)
    if not attached(model):
        return
    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    # written in an order of its own each time, and it decides nothing
    config["target_modules"] = sorted(config["target_modules"])
    config |= {"base_model_name_or_path": base, "revision": revision}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and not a model."""
    return (folder / CONFIG).is_file()


def put_on(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """The model with the adapter in a folder merged into its weights, which are changed.

    By PEFT: transformers' own `load_adapter` loses what DoRA adds.
    """
    from peft import PeftModel

    merged: Any = PeftModel.from_pretrained(model, str(folder))
    model = merged.merge_and_unload()
    model.requires_grad_(True)
    return model
