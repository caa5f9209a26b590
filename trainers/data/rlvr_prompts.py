"""A row of RLVR data -> what is asked, and what its answer is held against. Loads no torch.

Rows have `messages`, `ground_truth` and `dataset`, as allenai/RLVR-GSM-MATH-IF-Mixed-Constraints,
or a `prompt` with IFEval's `instruction_id_list` and `kwargs`.
"""

import json
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from trainers.data.sources import Row
from trainers.data.tokenize import Text, render
from trainers.rewards import graders


class Prompt(NamedTuple):
    messages: list[dict[str, Any]]
    """Up to where the assistant answers."""
    dataset: str
    """Names the grader; a key of `rewards.GRADERS`."""
    ground_truth: str

    @property
    def json(self) -> str:
        return json.dumps(self._asdict())


def read(row: Row) -> Prompt:
    """
    Raises:
        ValueError: the row is no prompt, or no answer to it could be graded.
    """
    match row:
        case {"messages": [*messages], "ground_truth": truth, "dataset": str(dataset)}:
            text = truth if isinstance(truth, str) else json.dumps(truth)
            found = Prompt(_asked(messages), dataset.lower(), text)
        case {"prompt": str(asked), "instruction_id_list": [*names], "kwargs": [*arguments]}:
            truth = json.dumps({"instruction_id_list": names, "kwargs": arguments})
            found = Prompt([{"role": "user", "content": asked}], "ifeval", truth)
        case _:
            raise ValueError(
                f"a row with columns {sorted(row)}; use `messages`, `ground_truth` and `dataset`, "
                "or `prompt`, `instruction_id_list` and `kwargs`"
            )
    problem = graders.problem(found.dataset, found.ground_truth)
    if problem:
        raise ValueError(problem)
    return found


def read_prompts(rows: list[dict[str, Any]]) -> list[Prompt]:
    """Of prepared rows, from their column `asked`."""
    return [Prompt(**json.loads(row["asked"])) for row in rows]


def text(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Text:
    """As the model reads it, up to where its answer begins."""
    blank = not any((message["content"] or "").strip() for message in prompt.messages)
    if blank:
        return Text("", [], blank=True)
    return Text(render(tokenizer, prompt.messages, add_generation_prompt=True), None, blank=False)


def _asked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without answers at the end, which some sets have."""
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]
