"""With what the trials of one grid were trained: the optimizer, and all weights or an adapter.

What is published about learning rates is about one optimizer, mostly AdamW, and about training all
weights; what rests on it has to know.
"""

import re
from typing import NamedTuple

import pandas as pd

NAMES = {
    "adamw": "AdamW", "adamw_8bit": "8-bit AdamW", "adafactor": "Adafactor", "sgd": "SGD",
    "lion": "Lion", "muon": "Muon", "adam": "Adam",
}  # fmt: skip
ADAPTERS = {"lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA", "qdora": "QDoRA"}
ADAM = ("AdamW", "8-bit AdamW", "Adam")


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


def optimizer_named(written: str) -> str:
    """As records name it: adamw_torch_fused, AdamW and torch.optim.AdamW are adamw."""
    name = re.sub(r"[^a-z0-9]+", "_", written.lower().rpartition(".")[2]).removeprefix("paged_")
    if name.startswith("adamw"):
        return "adamw_8bit" if "8bit" in name else "adamw"
    return next((known for known in NAMES if re.match(rf"{known}(_|$)", name)), name)


def adapter_named(written: str) -> str:
    """As records name it; "" of all weights, and of what is no kind of adapter."""
    return written.lower() if written.lower() in ADAPTERS else ""


def recipe(rows: pd.DataFrame) -> Recipe:
    """Of the rows of one grid (a stage, or one arm of it)."""
    known = NAMES | ADAPTERS

    def named(column: pd.Series) -> str:
        names = [str(name) for name in column.drop_duplicates() if name]
        return " and ".join(known.get(name, name) for name in names)

    return Recipe(named(rows.optimizer), named(rows.adapter))
