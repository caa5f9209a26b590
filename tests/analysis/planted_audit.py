"""The records of an audit, as the sweep writes them."""

import json
from pathlib import Path

CONTAMINATION = {
    "rule": {"n": 8, "threshold": 0.5, "normalisation": "tulu", "turns": "user"},
    "data": [
        {
            "name": "talks",
            "rows": 10,
            "unreadable": 3,
            "documents": 12,
            "tokens": 3400,
            "seconds": 0.1,
        },
        {
            "name": "<b>more",
            "rows": 2,
            "unreadable": 0,
            "documents": 2,
            "tokens": 40,
            "seconds": 0.1,
        },
    ],
    "benchmarks": [
        {"name": "gsm8k", "source": "x", "items": 1319, "public": 1319, "too_short": 4},
        {"name": "mmlu_pro", "source": "x", "items": 1400, "public": 12032, "too_short": 9},
        {"name": "mine", "source": "x", "items": 5, "public": None, "too_short": 0},
    ],
    "table": [
        {"data": data, "benchmark": name, "contaminated": hits, "items": items}
        | {"share": hits / items}
        | ({"low": 0.0001, "high": 0.004} if name == "mmlu_pro" else {})
        for data, hits in (("talks", 2), ("<b>more", 0))
        for name, items in (("gsm8k", 1319), ("mmlu_pro", 1400), ("mine", 5))
    ],
    "together": [
        {"benchmark": name, "contaminated": 2, "items": items, "share": 2 / items}
        for name, items in (("gsm8k", 1319), ("mmlu_pro", 1400), ("mine", 5))
    ],
    "cores": 2,
}
PAIR = {
    "data": "talks", "benchmark": "gsm8k", "item": "abc", "share": 0.76, "row": 3, "turn": 1,
    "documents": 2,
    "item_text": [["Max ", False], ["bought <stamps> at the post office", True]],
    "document_text": [["… Bella ", False], ["bought <stamps> at the post office", True]],
}  # fmt: skip
LANGUAGES = {
    "data": [
        {
            "name": "talks",
            "conversations": {"en": 6, "hi": 2, "fi": 1, "code": 1},
            "characters": {"en": 600, "hi": 100, "fi": 100, "code": 195, "mathematics": 5},
            "unreadable": 3,
            "seconds": 0.2,
        }
    ],
    "cores": 2,
}


def folder(path: Path) -> Path:
    """A folder with both audits and 26 contaminated items."""
    path.mkdir()
    (path / "contamination.json").write_text(json.dumps(CONTAMINATION))
    pairs = [PAIR] * 25 + [PAIR | {"benchmark": "mine"}]
    (path / "contaminated.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (path / "languages.json").write_text(json.dumps(LANGUAGES))
    return path
