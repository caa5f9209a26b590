"""What runs as a model's forward pass, so that what wraps it (autocast, sharded weights that are
whole for so long) wraps that too."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, TypeVar

from transformers import PreTrainedModel

Result = TypeVar("Result")


@contextmanager
def installed(model: PreTrainedModel, forward: Callable[..., Any] | None) -> Iterator[None]:
    """While open, `model(...)` is `forward(model, ...)`; afterwards the model is as it was. Without
    one, what TRL has put there stands so long."""
    if forward is not None:
        model.forward = MethodType(forward, model)
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):  # the latter is accelerate's
            model.__dict__.pop(name, None)


def inside(model: PreTrainedModel, work: Callable[[Any], Result]) -> Result:
    """`work(model)`, where parts of the model may be called and weights of its top be read."""
    before = vars(model).get("forward")
    model.forward = MethodType(work, model)
    try:
        return model()
    finally:
        del model.forward
        if before is not None:
            model.forward = before
