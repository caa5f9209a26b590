"""One row as the model reads it."""

from trainers.data.forms.tokenize import encode, text_of


def tokenise(row, tokenizer, loss_on: str) -> dict[str, list[int]]:
    """`input_ids` and `labels`."""
    ((ids, labels),) = encode([text_of(row, tokenizer, loss_on)], tokenizer)
    return {"input_ids": ids.tolist(), "labels": labels.tolist()}
