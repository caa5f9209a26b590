"""Rows -> tokens with labels, made once per run and memory-mapped by every trial.

Labels are made here, not by the chat template's generation marks: SmolLM2's template has none.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, Features, Sequence, Value
from datasets.arrow_writer import ArrowWriter
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from trainers import sources
from trainers.spec import SftSpec

IGNORED = -100
"""The label of a token that does not count in the loss (torch's ignore_index)."""

FORMAT = 2
"""Raised when the same rows would give other tokens or another order, or lie otherwise on disk."""

TRAIN, HELDOUT = "train.arrow", "heldout.arrow"

COLUMNS = Features(
    {
        "input_ids": Sequence(Value("int32")),
        "labels": Sequence(Value("int32")),
        "item": Value("string"),
    }
)


class Prepared(NamedTuple):
    """Columns `input_ids` and `labels`; `heldout` has `item`, a hash of the row, too."""

    train: Dataset
    heldout: Dataset
    counts: dict[str, int]


def prepare(spec: SftSpec, tokenizer: PreTrainedTokenizerBase, cache: Path) -> Prepared:
    """Tokenise `spec.data` into `cache`, or open what an earlier trial left there.

    The first `spec.heldout` rows of the fixed order are held out. `counts` says how many rows
    were read, truncated at `max_length`, and dropped: no token is left that counts, or the row is
    one of those held out once more.

    Raises:
        DataUnavailable: the data cannot be had.
        ValueError: a row has none of the known forms, or nothing is left to train on.
    """
    folder = cache / _key(spec, tokenizer)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _write(spec, tokenizer, folder)
    counts = json.loads((folder / "counts.json").read_text())
    if counts["train"] == 0:
        raise ValueError(f"data {spec.data.name!r}: no example is left to train on ({counts})")
    train, heldout = (Dataset.from_file(str(folder / part)) for part in (TRAIN, HELDOUT))
    return Prepared(train, heldout, counts)


def _key(spec: SftSpec, tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    parts = [
        FORMAT, spec.data.model_dump(), sources.fingerprint(spec.data), spec.max_length,
        spec.loss_on, spec.heldout, str(tokenizer.chat_template), tokenizer.eos_token,
        str(vocabulary),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _write(spec: SftSpec, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Row by row, so that the whole of the data is never in memory."""
    counts: Counter[str] = Counter(train=0, heldout=0, truncated=0, dropped=0)
    aside = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    apart: set[str] = set()
    with (
        ArrowWriter(path=str(aside / TRAIN), features=COLUMNS) as train,
        ArrowWriter(path=str(aside / HELDOUT), features=COLUMNS) as heldout,
    ):
        for number, row in enumerate(sources.rows(spec.data)):
            item, held_out = _hash(row), number < spec.heldout
            if held_out:
                apart.add(item)
            elif item in apart:
                counts["dropped"] += 1
                continue
            example = tokenise(row, tokenizer, spec.loss_on)
            length = len(example["input_ids"])
            example = {name: values[: spec.max_length] for name, values in example.items()}
            # The first token is never predicted, so a label on it does not count.
            if all(label == IGNORED for label in example["labels"][1:]):
                counts["dropped"] += 1
                continue
            counts["truncated"] += length > spec.max_length
            counts["heldout" if held_out else "train"] += 1
            (heldout if held_out else train).write({**example, "item": item})
        for writer in (train, heldout):
            writer.finalize()
    (aside / "counts.json").write_text(json.dumps(counts))
    aside.rename(folder)


def _hash(row: dict[str, Any]) -> str:
    text = json.dumps(row, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tokenise(
    row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, loss_on: str
) -> dict[str, list[int]]:
    """`input_ids` and `labels` of a conversation, a prompt with its completion, or a text.

    With `loss_on: assistant` the labels are the tokens of each assistant turn up to and including
    its end
    token. Plain text ends with the end token and counts in full.

    Raises:
        ValueError: the row has none of the three forms, or the template rewrites earlier turns.
    """
    if "text" in row:
        text, spans = row["text"] + (tokenizer.eos_token or ""), None
    else:
        messages = _messages(row)
        text = _render(tokenizer, messages)
        spans = None if loss_on == "all" else list(_assistant_spans(tokenizer, messages, text))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    if spans is None:
        return {"input_ids": ids, "labels": list(ids)}
    counted = [
        any(start < end and low <= start < high for low, high in spans)
        for start, end in encoded["offset_mapping"]
    ]
    return {
        "input_ids": ids,
        "labels": [token if kept else IGNORED for token, kept in zip(ids, counted, strict=True)],
    }


def _messages(row: dict[str, Any]) -> list[dict[str, str]]:
    if "messages" in row:
        return row["messages"]
    if "prompt" in row and "completion" in row:
        prompt, completion = row["prompt"], row["completion"]
        prompt = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        answer = completion if isinstance(completion, list) else None
        return prompt + (answer or [{"role": "assistant", "content": completion}])
    raise ValueError(
        f"a row with columns {sorted(row)}; use `messages`, `prompt` and `completion`, or `text`"
    )


def _assistant_spans(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], text: str
) -> Iterator[tuple[int, int]]:
    """Character ranges of what the assistant writes, without the line break after its end token."""
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _render(tokenizer, messages[:turn], add_generation_prompt=True)
        through = _render(tokenizer, messages[: turn + 1])
        if not (text.startswith(before) and text.startswith(through.rstrip())):
            raise ValueError(
                "the chat template rewrites earlier turns, so the assistant's tokens cannot be "
                "told apart; use loss_on: all"
            )
        yield len(before), len(through.rstrip())


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], **options) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
