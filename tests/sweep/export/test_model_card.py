"""What the card says of data and licence, from records."""

from huggingface_hub import ModelCard

from sweep.export import model_card
from sweep.export.model_card import Facts, Step
from trainers.data.row_counts import Counts

NONE = dict.fromkeys(Counts.model_fields, 0)
OTHER = {"license": "other", "license_name": "llama3.2", "license_link": "https://example.com/l"}


def prepared(place: str, rows: int, **asked) -> dict:
    settings = {"max_length": 2048, "data_seed": 0} | asked
    return {"asked": {"data": [place], **settings}, "sources": {place: NONE | {"rows": rows}}}


def card(*preparations: dict, name: str = "data/mine.jsonl", licence=None, **data) -> ModelCard:
    """Of a model of one training at `max_length` 2048."""
    spec = {"data": {"name": name, "split": "train", **data}, "max_length": 2048, "data_seed": 0}
    trial = {"key": "k", "stage": "sft", "arm": "", "kind": "sft", "model": "base", "spec": spec}
    facts = Facts(
        "mine",
        "run",
        [Step(trial, {})],
        list(preparations),
        [],
        "",
        "",
        "",
        licence or {},
        None,
        {},
    )
    return ModelCard(model_card.text(facts))


def test_the_counts_are_those_of_the_model_s_own_preparation():
    """Not those of an earlier start or another arm, nor of data whose name begins alike, and from
    whichever folder the model is exported."""
    text = card(
        prepared("/there/data/mine.jsonl", rows=11),
        prepared("/there/data/mine.jsonl", rows=22, max_length=512),
        prepared("/there/data/mine.jsonl[:60]", rows=33),
        prepared("/there/data/mine.jsonl x 0.5", rows=44),
        prepared("/there/data/mine.jsonlines", rows=55),
    ).text
    assert text.count(" rows: ") == 1 and "mine.jsonl: 11 rows: " in text
    part = card(prepared("/there/data/mine.jsonl[:60]", rows=33), examples=60).text
    assert "mine.jsonl[:60]: 33 rows: " in part


def test_local_data_are_no_data_set_of_the_hub():
    folder = prepared("/there/data/mine", rows=1)
    assert card(name="data/mine.parquet").data.datasets is None
    assert card(folder, name="data/mine").data.datasets is None
    assert card(name="data/mine").data.datasets == ["data/mine"]


def test_a_licence_of_its_own_is_named_with_its_place():
    written = card(licence=OTHER)
    assert written.data.license == "other" and written.data.license_name == "llama3.2"
    assert written.data.license_link == "https://example.com/l"
    assert "is under llama3.2 (https://example.com/l)" in written.text
