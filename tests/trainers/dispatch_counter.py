"""Counts what a piece of code asks of a device, without the device.

    model, counter = fake_model(config), Counter()
    with counter.open():
        train(model)
    counter.operators, counter.syncs, counter.attention

The device is played by fake tensors: they have shapes and dtypes and compute nothing, so that real
tensors are the host's. Whatever operator takes or gives a fake tensor would run on the device, a
real tensor that moves there is a copy, and whoever asks for a fake tensor's value waits for the
device: a synchronisation. It answers with a number, so that code goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.attention.varlen  # registers the operator, and its floating point operations
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

ANSWER = 0.125
"""Of a fake number: below the tolerances of proofs, finite, and above zero."""

VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "expand", "permute",
    "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
    "unsqueeze", "view", "empty", "empty_like", "new_empty", "empty_strided",
    "new_empty_strided", "lift_fresh", "device", "is_same_size",
}  # fmt: skip
"""Operators that launch nothing."""

SYNCS = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount",
    "equal", "is_nonzero", "unique_consecutive",
}  # fmt: skip
"""Operators whose result, or its shape, the host has to wait for. `repeat_interleave` of a device
tensor without `output_size` is another."""


FACTORIES = (torch.zeros, torch.ones, torch.full, torch.arange, torch.empty)
"""With `device=` they make tensors of the device; those of the host are made without."""


class Operator(NamedTuple):
    name: str
    bytes: int
    """Read and written."""
    flops: int


class Attention(NamedTuple):
    name: str
    dtypes: tuple[torch.dtype, ...]
    """Of query, key and value, as the caller has them: autocast may change them afterwards."""


FAKE = FakeTensorMode(allow_non_fake_inputs=True)


def fake_model(config: LlamaConfig, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    """A model of weights without values."""
    config.dtype = dtype
    with FAKE:
        model: Any = AutoModelForCausalLM.from_config(config)
    model.to = lambda *_, **__: model  # fake parameters cannot be moved
    return model.eval()


class Counter:
    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.views = 0
        self.syncs: list[str] = []
        self.copies: list[int] = []
        """Bytes of each copy from the host to the device."""
        self.attention: list[Attention] = []

    @contextmanager
    def open(self) -> Iterator["Counter"]:
        with _Calls(self), _Dispatches(self):
            yield self


class _Calls(TorchFunctionMode):
    """What never reaches the dispatcher, or reaches it as something else."""

    def __init__(self, counter: Counter):
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is scaled_dot_product_attention:
            dtypes = tuple(tensor.dtype for tensor in args[:3])
            self.counter.attention.append(Attention(name, dtypes))
        elif args and isinstance(args[0], FakeTensor):
            if name in ("cpu", "numpy", "tolist") or (name == "to" and _to_host(args, kwargs)):
                self.counter.syncs.append(name)
                return _answer(args[0], name)
        elif name == "to" and _device(args[1:], kwargs):
            moved = func(*args, **kwargs)
            return self._copied(moved, bool(kwargs.get("non_blocking")))
        elif kwargs.get("device") is not None and func is torch.tensor:
            return self._copied(func(*args, **kwargs), False)
        elif kwargs.get("device") is not None and func in FACTORIES:
            made = FAKE.from_tensor(func(*args, **kwargs))
            if func is not torch.empty:
                self.counter.operators.append(Operator(name, made.nbytes, 0))
            return made
        return func(*args, **kwargs)

    def _copied(self, tensor: torch.Tensor, asynchronous: bool) -> torch.Tensor:
        """A tensor of the host that has come to the device."""
        self.counter.copies.append(tensor.nbytes)
        if not asynchronous:
            self.counter.syncs.append("copy from pageable memory")
        return FAKE.from_tensor(tensor)


class _Dispatches(TorchDispatchMode):
    def __init__(self, counter: Counter):
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, counter = kwargs or {}, self.counter
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if name in ("_local_scalar_dense", "item") and on_device:  # the latter in inference mode
            counter.syncs.append(name)
            return {torch.bool: True}.get(
                args[0].dtype, ANSWER if args[0].dtype.is_floating_point else 1
            )
        out = func(*args, **kwargs)
        if not on_device:
            return out
        if name in SYNCS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            counter.syncs.append(name)
        if name in VIEWS:
            counter.views += 1
            return out
        if name == "_varlen_attn":
            counter.attention.append(Attention(name, tuple(t.dtype for t in args[:3])))
        results = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        flops = flop_registry.get(func.overloadpacket)
        counter.operators.append(
            Operator(
                name,
                sum(tensor.nbytes for tensor in (*tensors, *results)),
                _attention_flops(name, args)
                if "_varlen_attn" in name
                else flops(*args, **kwargs, out_val=out)
                if flops
                else 0,
            )
        )
        return out


def _attention_flops(name: str, args: Any) -> int:
    """Of sequences of equal length, as their bounds have no values; torch's own count takes all for
    as long as the longest one. Real lengths differ, so it is more than this."""
    backward = name.endswith("backward")
    query, bounds = (args[1], args[6]) if backward else (args[0], args[3])
    tokens, heads, size = query.shape
    each = tokens / (len(bounds) - 1)
    return int((10 if backward else 4) * heads * size * tokens * each)


def _to_host(args: Any, kwargs: Any) -> bool:
    """`.to("cpu")` by its name, which a fake device, itself named cpu, is never called."""
    return any(part == "cpu" for part in (*args[1:], kwargs.get("device")) if isinstance(part, str))


def _device(args: Any, kwargs: Any) -> bool:
    return any(isinstance(part, torch.device) for part in (*args, kwargs.get("device")))


def _answer(tensor: torch.Tensor, name: str) -> Any:
    value = torch.full(
        tuple(tensor.shape), ANSWER if tensor.dtype.is_floating_point else 0, dtype=tensor.dtype
    )
    match name:
        case "tolist":
            return value.tolist()
        case "numpy":
            return value.numpy()
        case _:
            return value
