"""A row with a chosen and a rejected answer -> the two texts that a model reads."""

from transformers import PreTrainedTokenizerBase

from trainers.data.forms.conversation import Conversation, filled, with_extras
from trainers.data.forms.messages import Messages
from trainers.data.forms.pairs import Pair, pair_of
from trainers.data.forms.rendering import Rendering
from trainers.data.forms.tokenize import Text
from trainers.data.rows.stored_rows import Row


def texts(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[Text, Text]:
    """The chosen and the rejected one, each up to its last token that counts. What the assistant
    writes after the prompt counts. Two answers that are the same, or an empty one, are blank.

    Raises:
        ValueError: the row is no pair, or the template cannot tell turns apart.
    """
    pair = pair_of(row)
    said = [[turn["content"] for turn in side] for side in (pair.chosen, pair.rejected)]
    calls = any(turn.get("tool_calls") for side in (pair.chosen, pair.rejected) for turn in side)
    empty = not all(any(part.strip() for part in side) for side in said)
    if not calls and (said[0] == said[1] or empty):
        blank = Text("", [], blank=True)
        return blank, blank
    extras = with_extras(filled(row), [])
    sides = [
        _text(extras._replace(messages=pair.prompt + side), len(pair.prompt), tokenizer)
        for side in (pair.chosen, pair.rejected)
    ]
    if pair.apart:
        apart = f"`{pair.apart}`, as the answers open with another question"
        sides[0] = sides[0]._replace(left_out=sides[0].left_out | {apart})
    return sides[0], sides[1]


def rendered(pair: Pair, tokenizer: PreTrainedTokenizerBase) -> tuple[Text, Text]:
    """The chosen and the rejected one, whatever they say.

    Raises:
        ValueError: the template cannot tell turns apart, or an answer is not the assistant's or not
            there.
    """
    if not (pair.chosen and pair.rejected):
        raise ValueError("`chosen` or `rejected` holds no answer")
    chosen, rejected = (
        _text(Conversation(pair.prompt + side), len(pair.prompt), tokenizer)
        for side in (pair.chosen, pair.rejected)
    )
    return chosen, rejected


def judged(prompt: Messages, answer: Messages, tokenizer: PreTrainedTokenizerBase) -> str:
    """What a reward model reads of one answer, as it was trained: up to the answer's end. Under a
    template that cannot tell turns apart, on which none is trained here: the whole conversation.

    Raises:
        ValueError: the template refuses it, or leaves a part of it out.
    """
    talk = Conversation(prompt + answer)
    try:
        return _text(talk, len(prompt), tokenizer).text
    except ValueError:
        return Rendering.of(tokenizer).text(talk).text.rstrip()


def _text(talk: Conversation, first: int, tokenizer: PreTrainedTokenizerBase) -> Text:
    read = Rendering.of(tokenizer).with_spans(talk, first)
    if not read.spans:
        raise ValueError("an answer has no turn of the assistant")
    text = read.text[: read.spans[-1][1]]
    return Text(text, read.spans, False, read.folded, left_out=read.left_out)
