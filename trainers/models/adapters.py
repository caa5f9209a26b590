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

from trainers.models import targets
from trainers.specs.adapter import Adapter

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CONFIG = "adapter_config.json"

BASE_CONFIG = "base_quantization.json"
"""File of an adapter on a base in 4 bits: the arguments of transformers' BitsAndBytesConfig."""


def in_4_bits(adapter: Adapter | None) -> bool:
    """Whether what is trained is an adapter on a base in 4 bits."""
    return adapter is not None and adapter.in_4_bits


def name_of_base(start: str, adapter: Adapter | None) -> str:
    """Of weights that training starts from, as they are under its adapter."""
    return f"{start} in nf4" if in_4_bits(adapter) else start


def make_base(
    model: "PreTrainedModel", adapter: Adapter | None, device: "torch.device | None" = None
) -> None:
    """Change the model into what the adapter is trained on, once. One in 4 bits then is on the
    device, or where it was."""
    if in_4_bits(adapter):
        from trainers.models import quantized

        quantized.quantize(model, device or model.device)


def check(model: "PreTrainedModel", adapter: Adapter) -> None:
    """Of a model that may be without weights; it is left as it is.

    Raises:
        ValueError: the adapter does not fit the model; the message begins with the key.
    """
    import copy

    from peft import LoraConfig

    if in_4_bits(adapter):
        from trainers.models import quantized

        quantized.linear(model)
    names, transposed = targets.find(model, adapter)
    config = LoraConfig(r=1, target_modules=names, fan_in_fan_out=transposed)
    try:
        copy.deepcopy(model).add_adapter(config)
    except ValueError as error:  # PEFT refuses some modules of Mamba
        raise ValueError(f"adapter.targets: {error}") from error


def attach(model: "PreTrainedModel", adapter: Adapter, seed: int) -> None:
    """Freeze the model's weights and put a fresh adapter on it; a reward model's head, which is
    drawn anew too, is still trained. Weights of A depend on `seed` alone.

    PEFT wraps modules in 4 bits as it does any linear one: its own class for bitsandbytes copies
    every result, and would merge by quantising again.

    Raises:
        ValueError: the model has none of the targets (trainers/models/targets.py).
    """
    import torch
    from peft import LoraConfig

    make_base(model, adapter)
    names, transposed = targets.find(model, adapter)
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]  (any number does)
        lora_dropout=adapter.dropout,
        target_modules=names,
        fan_in_fan_out=transposed,
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


def set_dropout(model: "PreTrainedModel", share: float) -> None:
    """Of the adapter; TRL switches it off with the model's own."""
    import torch
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for module in layer.lora_dropout.values():
                if isinstance(module, torch.nn.Dropout):
                    module.p = share


def parameters(model: "PreTrainedModel") -> int:
    """Weights of the model; a byte holds two of those in 4 bits."""
    states = [getattr(weight, "quant_state", None) for weight in model.parameters()]
    packed = sum(state.shape.numel() for state in states if state is not None)
    return model.num_parameters() + packed // 2


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
    the cost of the model alone. W in 4 bits is what these stand for; such a model leaves the GPU,
    which may not hold it whole. Without an adapter nothing happens."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not attached(model):
        return
    from trainers.models import quantized

    if quantized.holds(model):
        model.cpu()
        quantized.dequantize(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            layer: Any = module
            layer.merge(safe_merge=False)
            model.set_submodule(name, layer.get_base_layer())
    model._hf_peft_config_loaded = False
    vars(model).pop("peft_config", None)
    model.requires_grad_(True)


def copied_to_host(model: "PreTrainedModel") -> "PreTrainedModel":
    """A model on copies of its weights in the host's memory, to be merged where others use those
    below the adapter. Not of one in 4 bits."""
    import copy

    import torch

    weights: dict[int, Any] = {
        id(weight): torch.nn.Parameter(weight.detach().to("cpu", copy=True), weight.requires_grad)
        for weight in model.parameters()
    }
    buffers: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, weights | buffers)  # takes what it is given for copied


def save(model: "PreTrainedModel", folder: Path, base: str, revision: str | None) -> None:
    """Write the adapter alone, or the model where it has none; `base` names the model that it
    belongs on."""
    model.save_pretrained(folder)
    if not attached(model):
        return
    from trainers.models import quantized

    path = folder / CONFIG
    config = json.loads(path.read_text(encoding="utf-8"))
    # written in an order of its own each time, and it decides nothing
    config["target_modules"] = sorted(config["target_modules"])
    config |= {"base_model_name_or_path": base, "revision": revision}
    config |= {"task_type": "CAUSAL_LM"}  # without which AutoPeftModelForCausalLM loads none
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    if quantized.holds(model):
        text = json.dumps(quantized.CONFIG, indent=2)
        (folder / BASE_CONFIG).write_text(text, encoding="utf-8")


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter and not a model."""
    return (folder / CONFIG).is_file()


def base_is_in_4_bits(folder: Path) -> bool:
    """Whether the adapter in a folder was trained on a base in 4 bits.

    Raises:
        ValueError: on one that is not read here.
    """
    path = folder / BASE_CONFIG
    if not path.is_file():
        return False
    from trainers.models import quantized

    if json.loads(path.read_text(encoding="utf-8")) != quantized.CONFIG:
        raise ValueError(f"{path}: not the 4 bits of this version; use the one that wrote it")
    return True


def put_on(model: "PreTrainedModel", folder: Path, merged: bool = True) -> "PreTrainedModel":
    """The model with the adapter in a folder merged into its weights, which are changed; or on
    them, and active.

    By PEFT: transformers' own `load_adapter` loses what DoRA adds.
    """
    from peft import PeftModel

    adapted: Any = PeftModel.from_pretrained(model, str(folder))
    if not merged:
        return adapted.get_base_model()
    model = adapted.merge_and_unload()
    model.requires_grad_(True)
    return model
