"""A local model -> hashes of its content, by which a run knows that it is what it was."""

from pathlib import Path

from trainers import files
from trainers.models.load import gguf_file, on_hub

WEIGHTS = ("config.json", "tokenizer.json", "*.safetensors")

SETTINGS = (
    "adapter_config.json",
    "added_tokens.json",
    "additional_chat_templates/*.jinja",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "*.model",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""Files that decide how a prompt is written, how it is cut into tokens and where an answer ends."""


def of_weights(name: str) -> str | None:
    """Of a model's weights and tokenizer; None for `tiny`, and for a hub id, which has a commit.

    Raises:
        ModelUnavailable: it is in a package that is not installed.
    """
    file = gguf_file(name)
    return _of_files(name, WEIGHTS) if file is None else files.content_hash(file)


def of_settings(name: str) -> str | None:
    """Of the files `SETTINGS` of a local folder; None where there is none of them. By itself, since
    run folders from before it know the weights alone."""
    return _of_files(name, SETTINGS)


def _of_files(name: str, patterns: tuple[str, ...]) -> str | None:
    if name == "tiny" or on_hub(name):
        return None
    found = [file for pattern in patterns for file in sorted(Path(name).glob(pattern))]
    return files.content_hash(*found) if found else None
