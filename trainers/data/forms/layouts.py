"""What a row of the data is, and the example that is made of it: a text, a pair of texts, or a
prompt to be answered. `TrainingSpec.FORM` says which of them a kind of stage reads.
"""

from collections.abc import Callable
from typing import NamedTuple

from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from trainers.data.forms import preference_pairs, rlvr_prompts, tokenize
from trainers.data.rows.stored_rows import Row
from trainers.specs.rlvr import RlvrSpec
from trainers.specs.training import SftSpec, TrainingSpec

COLUMNS = Features(
    {
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32")),
        "length": Value("int32"),
        "item": Value("string"),
    }
)
"""`length` is the number of tokens, `item` a hash of the row."""

PAIR_COLUMNS = Features({**COLUMNS, "second": Value("int32")})
"""A pair is one example, its two texts one after the other; `second` is where the second begins."""

PROMPT_COLUMNS = Features({**COLUMNS, "asked": Value("string")})
"""A prompt has its tokens up to where the answer begins, and `rlvr_prompts.Prompt` as JSON."""


class Form(NamedTuple):
    columns: Features
    width: int
    """Texts of an example, which lie one after the other."""
    texts: Callable[[Row, TrainingSpec, PreTrainedTokenizerBase], tuple[tokenize.Text, ...]]
    """Raises ValueError where the row cannot be read as one of this form."""
    extra: Callable[[Row, TrainingSpec, list[int]], tuple] = lambda row, spec, sizes: ()
    """What stands in the columns beyond `COLUMNS`, by the row and the tokens of each text."""
    may_be_cut: bool = True
    """Whether an example goes without what lies beyond `max_length`, or is dropped."""


def _text(
    row: Row, spec: TrainingSpec, tokenizer: PreTrainedTokenizerBase
) -> tuple[tokenize.Text, ...]:
    assert isinstance(spec, SftSpec)
    return (tokenize.text_of(row, tokenizer, spec.loss_on),)


def _prompt(row: Row, spec: TrainingSpec, check: bool = True) -> rlvr_prompts.Prompt:
    assert isinstance(spec, RlvrSpec)
    return rlvr_prompts.read(row, spec.reward, check)


FORMS: dict[str, Form] = {
    "texts": Form(COLUMNS, 1, _text),
    "pairs": Form(
        PAIR_COLUMNS,
        2,
        lambda row, spec, tokenizer: preference_pairs.texts(row, tokenizer),
        lambda row, spec, sizes: (sizes[0],),
    ),
    "prompts": Form(
        PROMPT_COLUMNS,
        1,
        lambda row, spec, tokenizer: (rlvr_prompts.text(row, _prompt(row, spec), tokenizer),),
        lambda row, spec, sizes: (_prompt(row, spec, check=False).json,),
        may_be_cut=False,  # nobody knows what a prompt asks that is cut off
    ),
}
