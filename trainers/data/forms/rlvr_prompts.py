"""A row of RLVR data -> what is asked, and what its answer is held against. Loads no torch.

Rows have what is asked (`messages`, `prompt` or `question`) and the truth (`ground_truth`, `answer`
or `solution`), with the `dataset` that names the grader, as
allenai/RLVR-GSM-MATH-IF-Mixed-Constraints, or without, as TRL's and openai/gsm8k; or a `prompt`
with IFEval's `instruction_id_list` and `kwargs`.
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from trainers.data.forms.conversation import (
    CONVERSATIONS,
    PROMPTS,
    WAY_OUT,
    filled,
    question,
    with_extras,
)
from trainers.data.forms.messages import Messages, messages, shown
from trainers.data.forms.rendering import Rendering
from trainers.data.forms.tokenize import Text
from trainers.data.rows.stored_rows import Row
from trainers.data.rows.watched import Watched
from trainers.rewards import graders, own_function

TRUTHS = ("ground_truth", "answer", "solution")

ASKED = (*CONVERSATIONS, *PROMPTS)


class Prompt(NamedTuple):
    messages: Messages
    """Up to where the assistant answers."""
    dataset: str
    """Names the grader, a key of `graders.GRADERS`; empty where a function of the user's grades."""
    ground_truth: str
    columns: Mapping[str, Any] = MappingProxyType({})
    """The row's other columns, for a reward function of the user's."""
    tokens: Sequence[int] = ()
    """As the model reads it, once it is prepared: with what the row tells its template."""

    @property
    def json(self) -> str:
        """Without the tokens, which have a column of their own; what JSON has no form for, as a
        date, as text."""
        facts = self._asdict()
        kept = self._fields[: 4 if self.columns else 3]
        return json.dumps({name: facts[name] for name in kept}, default=_text)


def _text(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def read(row: Row, reward: str | None = None, check: bool = True) -> Prompt:
    """
    `reward` is the grader or the function of all rows (`RlvrSpec.reward`). Without `check`, a truth
    that no answer could reach is no error.

    Raises:
        ValueError: the row is no prompt, or no answer to it could earn anything.
    """
    stored, row = row, filled(row)
    column, asked = _asked(row, stored)
    if reward is not None and own_function.is_own(reward):
        columns = {k: value for k, value in stored.items() if k != column and value is not None}
        return Prompt(asked, "", "", columns)
    name = next(iter(row.first_named(TRUTHS)), None)
    if {"instruction_id_list", "kwargs"} <= row.keys() and name not in row.named:
        constraints = {name: row[name] for name in ("instruction_id_list", "kwargs")}
        return _graded(asked, reward or "ifeval", json.dumps(constraints), check)
    if name is None and (empty := next((name for name in TRUTHS if name in stored), None)):
        raise ValueError(f"its `{empty}` is empty")
    if name is None:
        raise ValueError(
            f"a row with the columns {', '.join(row)}; it needs what answers are held against, in "
            f"`ground_truth`, `answer` or `solution`, or a `reward: path.py:function`: {WAY_OUT}"
        )
    truth = _single(row[name], name)
    dataset = reward or _single(row.get("dataset"), "dataset")
    if dataset is None:
        dataset = "gsm8k" if graders.is_number(truth) else "math"
    return _graded(asked, str(dataset), truth, check)


def _graded(asked: Messages, dataset: str, truth: Any, check: bool) -> Prompt:
    text = graders.written(dataset, truth)
    problem = graders.problem(dataset, text, truth) if check else None
    if problem:
        raise ValueError(problem)
    return Prompt(asked, dataset.lower(), text)


def _asked(row: Watched, stored: Row) -> tuple[str, Messages]:
    """The column that has it, and without answers at the end, which some sets have. `row` has what
    is filled of `stored`; nothing is asked where the column is not."""
    column = next(iter(row.first_named(ASKED)), None)
    if column is None:
        if empty := next((column for column in ASKED if column in stored), None):
            return empty, []
        raise ValueError(
            f"a row with the columns {', '.join(row) or 'none'}; it needs what is asked, in "
            f"`messages`, `prompt` or `question`: {WAY_OUT}"
        )
    turns = messages(row[column], column) if column in CONVERSATIONS else question(row, column)
    turns = with_extras(row, turns).messages
    end = len(turns)
    while end and turns[end - 1]["role"] == "assistant":
        end -= 1
    return column, turns[:end]


def _single(value: Any, column: str) -> Any:
    """A value, or the only one of a list."""
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise ValueError(
            f"`{column}` has {len(value)} values, {shown(value)}; give one, or grade the answers "
            "with a `reward: path.py:function`"
        )
    return value[0]


def read_prompts(rows: list[dict[str, Any]]) -> list[Prompt]:
    """Of prepared rows, from their columns `asked` and `input_ids`."""
    return [Prompt(**json.loads(row["asked"]), tokens=row["input_ids"]) for row in rows]


def text(row: Row, prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Text:
    """As the model reads it, up to where its answer begins."""
    if not any(turn["content"].strip() for turn in prompt.messages):
        return Text("", [], blank=True)
    talk = with_extras(filled(row), prompt.messages)
    if talk.tools:
        raise ValueError("`tools` are not called in RLVR; use data without that column")
    read = Rendering.of(tokenizer).prompt(talk)
    worded = graders.in_words(prompt.dataset, prompt.ground_truth)
    return Text(read.text, None, blank=False, folded=read.folded, worded=worded)
