"""Compiled decoder layers: fewer and larger kernels, where a training is long enough to gain by it.

Uncompiled, a step of a 30-layer model launches some 5,000 kernels for each micro-batch, and at
small batches the launches are the time. `torch.compile` makes about a third of them. All layers
share one compilation, with symbolic lengths, and inductor keeps it on disk for the next process.
`TORCHDYNAMO_DISABLE=1` turns it off.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trainers.ops import half_weights
from trainers.ops.memory import out_of_memory
from trainers.ops.packed_attention import Example, rows
from trainers.specs.conditions import FEWEST_COMPILED

PROOF = ((130, 70, 17), (40, 9))
"""Lengths of the examples of two rows that must give the same compiled and uncompiled."""

TOLERANCE = 3e-2
"""Relative L2 distance of hidden states and of gradients, in bfloat16."""


LONGEST_REASON = 300
"""Characters of a compiler's message that the records keep."""


class Compiled(NamedTuple):
    used: bool
    reason: str
    """Why not."""

    def facts(self, against: str) -> dict[str, Any]:
        """For a training's record; `against` is what was known before."""
        failed = {"compilation_failed": self.reason} if self.reason != against else {}
        return {"compiled": self.used, **failed}


def worthwhile(
    device: str, packed: bool, bfloat16: bool, micro_batches: float, before: bool | None = None
) -> str:
    """Why a training is not compiled; "" where it is. One that goes on does `before` as well, if
    it can, and so has the kernels that it began with: on a shared GPU another attempt has other
    micro-batches."""
    if device != "cuda":
        return f"the device is {device}"
    if not packed or not bfloat16:
        return "only packed attention in bfloat16 is"
    if before is not None:
        return "" if before else "it was not when the training began"
    if micro_batches < FEWEST_COMPILED:
        return f"{micro_batches:.0f} micro-batches are fewer than {FEWEST_COMPILED}"
    return ""


Run = Callable[[PreTrainedModel, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]]
"""Of a model and the lengths of random examples: hidden states, and a gradient that all layers hand
down; leaves no gradient."""


@contextmanager
def layers(
    model: PreTrainedModel, reason: str, backend: Any = "inductor", run: Run | None = None
) -> Iterator[Compiled]:
    """While open, the decoder layers are compiled, unless there is a `reason` against it or they
    fail the proof; the model is left as it was. `run` is how the model is proven, if it is not one
    that takes packed rows."""
    if reason:
        yield Compiled(False, reason)
        return
    modules = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    try:
        reason = _compile(model, modules, backend, run or one_row)
        if reason:
            _restore(modules)
        yield Compiled(not reason, reason)
    finally:
        _restore(modules)
        torch.compiler.reset()


def _compile(model: PreTrainedModel, modules: list[Any], backend: Any, run: Run) -> str:
    """Compile and prove; returns what went wrong."""
    if not modules:
        return f"{type(model).__name__} has no decoder layers known to transformers"
    expected = [run(model, lengths) for lengths in PROOF]
    try:
        for module in modules:
            module.compile(dynamic=True, backend=backend)
        passes = [run(model, lengths) for lengths in PROOF]
    except Exception as error:  # any part of the compiler, or the C++ compiler that it calls
        if out_of_memory(error):
            raise
        return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
    for before, after in zip(expected, passes, strict=True):
        for plain, other in zip(before, after, strict=True):
            distance = float((other - plain).norm() / plain.norm())
            if not distance < TOLERANCE:
                return f"compiled layers differ by {distance:.2g}"
    return ""


def random_examples(model: PreTrainedModel, lengths: tuple[int, ...]) -> list[Example]:
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    ids = [torch.randint(vocabulary, (n + 1,), generator=generator) for n in lengths]
    return [Example(tokens, tokens) for tokens in ids]


def one_row(model: PreTrainedModel, lengths: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """`Run` of a model that takes packed rows."""
    training = model.training
    model.train()
    row = rows(random_examples(model, lengths), True, model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        hidden = half_weights.forward(model.base_model, row.options).last_hidden_state.float()
    weigh = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(1))
    weigh = weigh.to(hidden.device)
    (hidden * weigh).sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    if gradient is None:  # frozen under an adapter, whose own gradients are few
        own = [
            parameter.grad.flatten()
            for parameter in model.parameters()
            if parameter.grad is not None
        ]
        gradient = torch.cat(own)
    assert isinstance(gradient, torch.Tensor)
    gradient = gradient.clone()
    model.zero_grad()
    model.train(training)
    return hidden.detach(), gradient


def _restore(modules: list[Any]) -> None:
    for module in modules:
        module._compiled_call_impl = None  # torch has no call that undoes `Module.compile`
