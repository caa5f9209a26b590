"""How a table is to be read: which rows, which columns are what, and what is better.

python -m analysis.report sweep.csv --by num_train_epochs --where weight_decay=0
python -m analysis.report history.csv --last step --columns learning_rate=lr,batch_size=tokens
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Pairs = Mapping[str, str]


@dataclass(frozen=True)
class ReadOptions:
    """`where` keeps the rows with these values; `by` names columns, each value of which has a
    surface of its own; `last` names a column, of each run the row with its highest value is kept;
    `columns` maps what the schema asks for to the table's columns (or to a number, or to nothing);
    `directions` maps metrics to "min" or "max"."""

    where: Pairs = field(default_factory=dict)
    by: tuple[str, ...] = ()
    last: str | None = None
    columns: Pairs = field(default_factory=dict)
    directions: Pairs = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `ReadOptions` to a command line."""
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        type=_condition,
        metavar="COLUMN=VALUE",
        help="only the rows with this value; may be given several times",
    )
    parser.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="COLUMN",
        help="a surface for each value of this column, side by side; may be given several times",
    )
    parser.add_argument(
        "--last",
        metavar="COLUMN",
        help="of each run only the row with the highest value (step, epoch, a date)",
    )
    parser.add_argument(
        "--columns",
        action="append",
        default=[],
        type=_columns,
        metavar="NAME=COLUMN,...",
        help="which column of the table is what: learning_rate=lr,batch_size=bs; a number stands "
        "for a column that is missing (devices=4), nothing for one to leave out (seed=)",
    )
    parser.add_argument(
        "--direction",
        action="append",
        default=[],
        type=_direction,
        metavar="METRIC=min|max",
        help="which value of a metric is best; may be given several times",
    )


def from_arguments(given: argparse.Namespace) -> ReadOptions:
    """The options that `add_arguments` added, as given."""
    return ReadOptions(
        where=dict(given.where),
        by=tuple(given.by),
        last=given.last,
        columns={name: column for pairs in given.columns for name, column in pairs},
        directions=dict(given.direction),
    )


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not COLUMN=VALUE")
    return name, value


def _columns(text: str) -> list[tuple[str, str]]:
    """A comma inside a column's name ("acc,none") separates nothing."""
    pairs = [part.partition("=") for part in re.split(r",(?=[^,=]+=)", text)]
    if any(not (name.strip() and equals) for name, equals, _ in pairs):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=COLUMN,...")
    return [(name.strip(), column.strip()) for name, _, column in pairs]


def _direction(text: str) -> tuple[str, str]:
    name, equals, best = text.rpartition("=")
    if not (name and equals and best in ("min", "max")):
        raise argparse.ArgumentTypeError(f"'{text}' is not METRIC=min or METRIC=max")
    return name, best
