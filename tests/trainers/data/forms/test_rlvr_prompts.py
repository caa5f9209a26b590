"""Rows of RLVR data: what is asked, and whether its truth can be reached."""

import json

from trainers.data.prepare import prepare
from trainers.specs.rlvr import RlvrSpec


def test_truths_in_words_are_counted_in_the_plan(tiny, tmp_path):
    truths = ["Paris", r"\frac{1}{2}", "4"]
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{truth}?", "answer": truth}) + "\n" for truth in truths)
    )
    spec = RlvrSpec.model_validate({
        "kind": "rlvr", "learning_rate": 1e-3, "batch_size": 2, "group_size": 2, "heldout": 0,
        "data": {"name": str(path)},
    })  # fmt: skip
    prepared = prepare(spec, tiny.tokenizer, tmp_path / "data")
    assert prepared.counts["worded"] == 1
    assert "1 truths in words" in prepared.preparation.lines()[0]
