"""The loss on held-out rows, against the definition."""

import numpy as np
import pytest
import torch

from trainers.data import prepare
from trainers.data.forms.tokenize import IGNORED
from trainers.evaluate import heldout_loss
from trainers.ops import memory
from trainers.specs.training import SftSpec


@pytest.fixture
def rows(tiny, tmp_path):
    spec = SftSpec.model_validate({
        "kind": "sft", "data": {"name": "world:sft", "examples": 40}, "learning_rate": 1e-3,
        "batch_size": 4, "heldout": 30, "max_length": 256,
    })  # fmt: skip
    return prepare.prepare(spec, tiny.tokenizer, tmp_path).heldout


def by_hand(model, rows) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the losses and number of the tokens that count, of each row alone."""
    losses, tokens = [], []
    for row in rows:
        labels = torch.tensor(row["labels"])[1:]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum")))
        tokens.append(int((labels != IGNORED).sum()))
    return np.array(losses), np.array(tokens)


def test_loss_is_that_of_all_tokens_that_count(tiny, rows):
    losses, tokens = by_hand(tiny.model, rows)
    found = heldout_loss.score(tiny, rows, "float32")
    (score,) = found.scores
    assert score.value == pytest.approx(losses.sum() / tokens.sum(), rel=1e-5)
    assert (score.metric, score.n, score.primary) == ("loss", 30, True)
    assert not score.higher_is_better
    assert found.settings["tokens"] == tokens.sum()
    ratio = losses.sum() / tokens.sum()
    error = np.sqrt(((losses - ratio * tokens) ** 2).sum() / 29 / 30) / tokens.mean()
    assert score.stderr == pytest.approx(error, rel=1e-4)


def test_loss_does_not_hang_on_the_batches(tiny, rows, monkeypatch):
    before = heldout_loss.score(tiny, rows, "float32")
    monkeypatch.setattr(memory, "FORWARD_ON_CPU", 1)
    alone = heldout_loss.score(tiny, rows, "float32")
    assert alone.items.value.to_numpy() == pytest.approx(before.items.value.to_numpy(), rel=1e-4)


def test_items_are_the_rows_in_their_order(tiny, rows):
    assert list(heldout_loss.score(tiny, rows, "float32").items["item"]) == list(rows["item"])


def test_no_row_is_an_error(tiny, rows):
    with pytest.raises(ValueError, match="set `heldout`"):
        heldout_loss.score(tiny, rows.select([]), "float32")
