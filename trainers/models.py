"""A named model -> weights and tokenizer on this machine's device.

Names: `tiny` (about a million parameters, made here), a local folder, or a model id on the hub.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KNOWN_PARAMETERS = {
    "tiny": 936_192,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
}
"""Number of parameters, for plans made offline. Source: the weights themselves (safetensors
headers)."""


class ModelUnavailable(Exception):
    """The model cannot be had here and now; the message says what was tried."""


class Loaded(NamedTuple):
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


def problem(name: str) -> str | None:
    """What is wrong with a model name, or None. A hub id is taken on trust: it needs the
    network."""
    if name == "tiny":
        return None
    folder = Path(name)
    if folder.is_dir():
        return None if (folder / "config.json").is_file() else f"no config.json in {name!r}"
    if name.startswith((".", "/", "~")):
        return f"no model folder {name!r}"
    if name.count("/") != 1:
        return f"{name!r} is neither `tiny`, a local folder, nor a hub id of the form owner/name"
    return None


def parameters(name: str) -> int | None:
    """Number of parameters, without loading or downloading; None where unknown."""
    index = Path(name) / "model.safetensors"
    if index.is_file():
        with open(index, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = (entry["shape"] for key, entry in header.items() if key != "__metadata__")
        return sum(_product(shape) for shape in shapes)
    return KNOWN_PARAMETERS.get(name)


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def load(name: str, revision: str | None = None) -> Loaded:
    """Weights in float32 on the device, in evaluation mode, and the tokenizer with a pad token.

    Raises:
        ModelUnavailable: no such folder, or the hub does not have it or does not answer.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if name == "tiny":
        from trainers.tiny import tiny

        model, tokenizer = tiny()
    else:
        try:
            model = AutoModelForCausalLM.from_pretrained(
                name, revision=revision, dtype=torch.float32, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        except (OSError, ValueError) as error:
            raise ModelUnavailable(f"model {name!r}: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = cast(Any, model).to(device())  # transformers wraps `to` in a way that hides its type
    return Loaded(model.eval(), tokenizer)


def device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bfloat16(dtype: str) -> bool:
    """Whether a spec's dtype means bfloat16 here; `auto` does where the GPU has it.

    Raises:
        ValueError: bfloat16 was asked for by name and the GPU lacks it.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    available = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else False
    if dtype == "bfloat16" and on_gpu and not available:
        raise ValueError("dtype: bfloat16 is not supported by this GPU; use auto or float32")
    return available if dtype == "auto" else dtype == "bfloat16"
