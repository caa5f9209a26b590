"""With what the trials of one grid were trained: the optimizer, and all weights or an adapter.

What is published about learning rates is about one optimizer, mostly AdamW, and about training all
weights; what rests on it has to know.
"""

from typing import NamedTuple

import pandas as pd

NAMES = {
    "adamw": "AdamW", "adamw_8bit": "8-bit AdamW", "adafactor": "Adafactor", "sgd": "SGD",
    "lion": "Lion", "muon": "Muon",
}  # fmt: skip
ADAPTERS = {"lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA", "qdora": "QDoRA"}
ADAM = ("AdamW", "8-bit AdamW")


class Recipe(NamedTuple):
    """`optimizer` is "" where the table does not say it, several are joined by " and "; `adapter`
    is one of `ADAPTERS` or ""."""

    optimizer: str = ""
    adapter: str = ""

    @property
    def adam(self) -> bool:
        """Whether what is known of Adam holds; it is taken to where the optimizer is not said."""
        return all(name in ADAM for name in self.optimizer.split(" and ") if name)

    @property
    def words(self) -> str:
        """AdamW; LoRA by Lion; "" where neither is said."""
        return " by ".join(part for part in (self.adapter, self.optimizer) if part)

    @property
    def told(self) -> str:
        """A sentence where it is not AdamW on all weights, which goes without saying."""
        plain = not self.adapter and self.optimizer in ("", NAMES["adamw"])
        return "" if plain else f" Trained: {self.words}."


UNKNOWN = Recipe()


def recipe(rows: pd.DataFrame) -> Recipe:
    """Of the rows of one grid (a stage, or one arm of it)."""
    known = NAMES | ADAPTERS

    def named(column: pd.Series) -> str:
        names = [str(name) for name in column.drop_duplicates() if name]
        return " and ".join(known.get(name, name) for name in names)

    return Recipe(named(rows.optimizer), named(rows.adapter))
