"""A model's own dropout: what its configuration says of it, and a training without it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OF_HEADS = ("classifier", "summary")
"""How keys begin that belong to heads which are not trained here."""


def in_config(config: Mapping[str, Any]) -> dict[str, float]:
    """Keys of a decoder's configuration -> their probabilities of dropout, above zero."""
    text = config.get("text_config")
    if isinstance(text, Mapping):
        return in_config(text)
    return {
        name: value
        for name, value in config.items()
        if "drop" in name and not name.startswith(OF_HEADS) and _is_above_zero(value)
    }


def words(probabilities: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in probabilities.items())


@contextmanager
def off(model: "PreTrainedModel") -> Iterator[None]:
    """While open, the model has no dropout of its own, in whatever way its modules read it. That of
    an adapter stays. TRL's `disable_dropout` changes modules of the class Dropout alone, which
    leaves OPT's and all attention's."""
    import torch
    from transformers import PreTrainedConfig

    before: list[tuple[Any, str, Any]] = []
    for path, module in model.named_modules():
        if "lora_dropout" in path:
            continue
        config = getattr(module, "config", None)
        parts = [module, config] if isinstance(config, PreTrainedConfig) else [module]
        for part in parts:
            for name, value in list(vars(part).items()):
                of_module = isinstance(part, torch.nn.Dropout) and name == "p"
                if ("drop" in name or of_module) and _is_above_zero(value):
                    before.append((part, name, value))
                    setattr(part, name, type(value)(0))
    try:
        yield
    finally:
        for part, name, value in before:
            setattr(part, name, value)


def _is_above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
