"""A task of a user's own, as lm-eval reads it: a file, and its items beside it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WRITTEN = """\
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: a
"""
"""The question and the answer of an item."""


def own_task(
    folder: Path, items: Iterable[dict[str, Any]], keys: str = WRITTEN, name: str = "mine"
) -> Path:
    """The path of the file; `keys` are those beside its name and its data."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(
        f"task: {name}\n"
        "dataset_path: json\n"
        "dataset_kwargs: {data_files: {test: items.jsonl}}\n"
        f"test_split: test\n{keys}"
    )
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    return path
