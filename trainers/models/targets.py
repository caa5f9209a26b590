"""Which modules of a model an adapter is put on: those with a matrix, by their place."""

from typing import TYPE_CHECKING, NamedTuple

from trainers.specs.adapter import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = ("attn", "attention")
FEED_FORWARD = ("mlp", "feed_forward", "ffn", "fc1", "fc2", "moe")
"""Parts of the names of modules that are, or lie in, such a block. What has neither, such as the
mixer of a Mamba layer, is a target of `all_linear` and of its own name alone."""

BLOCKS = {"attention": "attention", "mlp": "a feed-forward block"}
"""A kind of targets -> the block that they lie in, in words."""


class Targets(NamedTuple):
    names: list[str]
    """As PEFT compares them: each the end of the names of some modules, and of no other's."""
    transposed: bool
    """Whether the weights are (inputs, outputs), as transformers' Conv1D of GPT-2 has them."""


def find(model: "PreTrainedModel", adapter: Adapter) -> Targets:
    """The linear modules below `base_model`, so without a head; embeddings are not linear.

    Raises:
        ValueError: there is none that `adapter.targets` means.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    body = {id(module) for module in model.base_model.modules()}
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and id(module) in body
    }
    kind = type(model).__name__
    if not linear:
        raise ValueError(
            f"adapter: {kind} has no linear module that an adapter fits; leave `adapter` out, "
            "which trains all weights"
        )
    last = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    match adapter.targets:
        case tuple(named):
            missing = [end for end in named if not any(_ends(name, end) for name in linear)]
            if missing:
                raise ValueError(
                    f"adapter.targets: {kind} has no linear module {', '.join(missing)}; it has "
                    f"{last}"
                )
            chosen = [name for name in linear if any(_ends(name, end) for end in named)]
        case "all_linear":
            chosen = list(linear)
        case block:
            chosen = [name for name in linear if _block(name) == block]
            if not chosen:
                raise ValueError(
                    f"adapter.targets: {block}: no linear module of {kind} is in {BLOCKS[block]} "
                    f"by its name; use all_linear, or a list of some of {last}"
                )
    transposed = all(isinstance(linear[name], Conv1D) for name in chosen)
    return Targets(_ends_of(model, chosen), transposed)


def _block(name: str) -> str | None:
    if any(part in name for part in ATTENTION):
        return "attention"
    return "mlp" if any(part in name for part in FEED_FORWARD) else None


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _ends_of(model: "PreTrainedModel", chosen: list[str]) -> list[str]:
    """The shortest ends of the names of the chosen modules that no other module's name has."""
    others = {name for name, _ in model.named_modules()} - set(chosen)
    taken = {end for name in others for end in _all_ends(name)}
    ends = (next((end for end in _all_ends(name) if end not in taken), name) for name in chosen)
    return list(dict.fromkeys(ends))


def _all_ends(name: str) -> list[str]:
    """c_proj, attn.c_proj, 0.attn.c_proj, ..."""
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
