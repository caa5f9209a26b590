"""What became of the rows of a stage's data: counts.json beside the tokens. Loads no torch."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainers.data import sources
from trainers.specs.spec import DataSpec, Strict, TrainingSpec

FILE = "counts.json"


class Counts(Strict):
    """Of one data set, or of a whole mixture. Every row is in exactly one of `train`, `heldout`,
    `dropped`, `duplicates` and `empty`."""

    rows: int
    """Rows of one epoch, the held-out ones too."""
    train: int
    heldout: int
    truncated: int
    """Of those kept, the ones that were longer than `max_length`."""
    dropped: int
    """No token is left that counts in the loss; or a prompt is longer than `max_length`."""
    duplicates: int
    """The same as a row that is held out."""
    empty: int
    """All that should count in the loss is blank; or the two answers of a pair are the same, or one
    is blank."""
    tokens: int
    """Of the examples to train on."""
    loss_tokens: int
    """Those of them that count in the loss."""

    @property
    def tokens_per_example(self) -> float:
        return self.tokens / max(self.train, 1)

    def line(self) -> str:
        """In words, for the start of a run and its plan."""
        kept = max(self.train + self.heldout, 1)
        left_out = [
            f"{number:,} {what}"
            for number, what in (
                (self.dropped, "without a token that counts"),
                (self.duplicates, "like a held-out one"),
                (self.empty, "empty"),
            )
            if number
        ]
        return (
            f"{self.rows:,} rows: {self.train:,} to train on ({self.tokens_per_example:,.0f} tokens"
            f" each, {self.loss_tokens / max(self.tokens, 1):.0%} of them count), "
            f"{self.heldout:,} held out, {self.truncated:,} truncated "
            f"({self.truncated / kept:.1%}); left out: {', '.join(left_out) or 'none'}"
        )


KINDS = tuple(Counts.model_fields)


class Preparation(Strict):
    """What was asked for, and what became of each of its data sets."""

    asked: dict[str, Any]
    sources: dict[str, Counts]

    @property
    def total(self) -> Counts:
        counts = self.sources.values()
        return Counts(**{kind: sum(getattr(one, kind) for one in counts) for kind in KINDS})

    def lines(self) -> list[str]:
        """One for each data set."""
        return [
            f"data {place.rpartition('/')[2] if place.startswith('/') else place}: {counts.line()}"
            for place, counts in self.sources.items()
        ]


def asked(spec: TrainingSpec) -> dict[str, Any]:
    """The part of a spec that decides its examples, by names that hold wherever it is asked."""
    return {
        "data": [name(source) for source in spec.sources],
        **spec.model_dump(include=set(spec.DATA_FIELDS)),
        "data_seed": spec.data_seed,
    }


def name(data: DataSpec) -> str:
    """For eyes, and to find the same data set again: which part of what is read."""
    local = sources.is_local(data.name)
    place = str(Path(data.name).absolute()) if local else f"{data.name}:{data.split}"
    part = f"[:{data.examples}]" if data.examples else ""
    weight = f" x {data.weight:g}" if data.weight != 1 else ""
    return f"{place}{part}{weight}"


def write(folder: Path, preparation: Preparation) -> None:
    (folder / FILE).write_text(preparation.model_dump_json(indent=1), encoding="utf-8")


def read(folder: Path) -> Preparation:
    """
    Raises:
        ValueError: it is damaged.
    """
    try:
        return Preparation.model_validate_json((folder / FILE).read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{folder / FILE}: damaged; delete {folder}, and the same command prepares the data "
            "again"
        ) from error


def find(cache: Path, spec: TrainingSpec) -> Preparation | None:
    """What was last prepared for such a spec, or None; reads no data and no tokenizer."""
    found = sorted(cache.glob(f"*/{FILE}"), key=lambda file: file.stat().st_mtime_ns)
    for file in reversed(found):
        try:
            preparation = read(file.parent)
        except ValueError:  # damaged; who opens the data is told
            continue
        if preparation.asked == asked(spec):
            return preparation
    return None
