"""A conversation -> its text by the chat template, and where in it the assistant writes."""

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from trainers.data.forms.conversation import Conversation
from trainers.data.forms.left_out import LATER, left_out
from trainers.data.forms.messages import Message, Messages, shown
from trainers.models import chat_template
from trainers.models.training_templates import marked

Span = tuple[int, int]
"""A range of characters."""

WAY_OUT = (
    "give the stage a `chat_template:` file that marks what the assistant writes with "
    "{% generation %} ... {% endgeneration %}"
)


class Rendered(NamedTuple):
    text: str
    spans: list[Span]
    """What the assistant writes, each turn up to and including its end token."""
    folded: bool
    """Whether the system turn stands in the first user turn, as the template has none."""
    left_out: frozenset[str] = frozenset()
    """What of the messages it does not have, in words."""


class Rendering:
    """A tokenizer's chat template, as training reads it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.own = tokenizer.chat_template
        self._templates: dict[bool, str] = {}
        self._writes: dict[str, bool] = {}
        self._writes_later: dict[tuple[str, str], bool] = {}
        self._inner = chat_template.inner_ends(tokenizer)
        added: Any = tokenizer.get_added_vocab
        self._added = sorted(added(), key=len, reverse=True)
        self.opening = chat_template.opening(tokenizer)
        """What the tokenizer writes before every plain text."""
        self.marks = chat_template.marks(tokenizer)
        self._prompt = self._generation_prompt()

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> "Rendering":
        """The one of a tokenizer, made anew where its template has changed."""
        known = _renderings.get(tokenizer)
        if known is None or known.own != tokenizer.chat_template:
            known = _renderings[tokenizer] = Rendering(tokenizer)
        return known

    def prompt(self, talk: Conversation) -> Rendered:
        """A conversation up to where the assistant answers, by the template itself.

        Raises:
            ValueError: the template refuses the conversation, or leaves a part of it out.
        """
        talk, folded = self._fitting(talk)
        template = chat_template.chosen_template(self.tokenizer, list(talk.tools) or None)
        text, _ = self._render(talk, template, add_generation_prompt=True)
        self._check(talk, text, template)
        return Rendered(text, [], folded)

    def with_spans(self, talk: Conversation, first: int = 0) -> Rendered:
        """A conversation with what the assistant writes from message `first` on.

        Raises:
            ValueError: the template refuses the conversation, leaves a part of it out, or rewrites
                earlier turns and has no version for training.
        """
        size = len(talk.messages)
        talk, folded = self._fitting(talk)
        first -= size - len(talk.messages)  # a system turn that was folded is one less
        template = self._template(talk)
        if marked(template):
            text, spans = self._render(talk, template)
            spans = self._marked_spans(talk.messages, text, spans, first)
        else:
            text, _ = self._render(talk, template)
            spans = list(self._spans_by_prefix(talk, template, text, first))
        self._check(talk, text, template)
        turns = [turn for _, turn in _trained(talk.messages, first)]
        written = [(turn, text[slice(*span)]) for turn, span in zip(turns, spans, strict=True)]
        lost = frozenset(left_out(talk.messages, template, written))
        return Rendered(text, [self._trimmed(text, span) for span in spans], folded, lost)

    def text(self, talk: Conversation) -> Rendered:
        """A whole conversation."""
        talk, folded = self._fitting(talk)
        template = self._template(talk)
        text, _ = self._render(talk, template)
        self._check(talk, text, template)
        lost = frozenset(left_out(talk.messages, template, []))
        return Rendered(text, [], folded, lost)

    def _template(self, talk: Conversation) -> str:
        has_tools = bool(talk.tools)
        if has_tools not in self._templates:
            own = chat_template.chosen_template(self.tokenizer, list(talk.tools) or None)
            self._templates[has_tools] = chat_template.for_training(own)
        return self._templates[has_tools]

    def _fitting(self, talk: Conversation) -> tuple[Conversation, bool]:
        """With the first turn as the template can write it."""
        first = talk.messages[0]["role"] if talk.messages else ""
        if first not in ("system", "developer") or self._writes_first(first):
            return talk, False
        opening, rest = talk.messages[0], talk.messages[1:]
        if first == "developer" and self._writes_first("system"):
            return talk._replace(messages=[opening | {"role": "system"}, *rest]), False
        if rest and rest[0]["role"] == "user":
            said = f"{opening['content']}\n\n{rest[0]['content']}"
            return talk._replace(messages=[rest[0] | {"content": said}, *rest[1:]]), True
        return talk._replace(messages=[opening | {"role": "user"}, *rest]), True

    def _writes_first(self, role: str) -> bool:
        """Whether the template writes a first turn of that role; some refuse it, some leave it
        out."""
        if role not in self._writes:
            turns = [
                {"role": role, "content": chat_template.MARK},
                {"role": "user", "content": "?"},
            ]
            try:
                template = chat_template.chosen_template(self.tokenizer)
                text, _ = self._render(Conversation(turns), template)
            except ValueError:
                text = ""
            self._writes[role] = chat_template.MARK in text
        return self._writes[role]

    def _render(self, talk: Conversation, template: str, **options: Any) -> tuple[str, list[Span]]:
        """The text, and the ranges that the template marks."""
        try:
            return self._rendered(talk, template, options)
        except TypeError:  # a template that joins the arguments of a call as text
            written = talk._replace(messages=[_with_text_arguments(m) for m in talk.messages])
            if written.messages == talk.messages:
                raise
            return self._rendered(written, template, options)

    def _rendered(
        self, talk: Conversation, template: str, options: dict[str, Any]
    ) -> tuple[str, list[Span]]:
        try:
            rendered: Any = render_jinja_template(
                conversations=[talk.messages],
                tools=list(talk.tools) or None,
                chat_template=template,
                return_assistant_tokens_mask=marked(template),
                **{**self.tokenizer.special_tokens_map, **talk.options, **options},
            )
        except TypeError:
            raise
        except Exception as error:  # a template can raise anything
            raise ValueError(f"the chat template refuses it: {error}") from error
        texts, spans = rendered
        return texts[0], list(spans[0]) if spans else []

    def _marked_spans(
        self, messages: Messages, text: str, spans: list[Span], first: int
    ) -> list[Span]:
        """Those of the assistant's messages from `first` on."""
        places = [place for place, turn in enumerate(messages) if turn["role"] == "assistant"]
        end = self.tokenizer.eos_token
        if len(spans) == len(places) + 1 and text[slice(*spans[-1])] == end:
            spans = spans[:-1]  # Phi-3's end of the whole text, behind the end of the last turn
        if len(spans) != len(places):
            raise ValueError(
                f"the chat template marks {len(spans)} turns of the assistant's {len(places)}; "
                f"{WAY_OUT}"
            )
        by_place = dict(zip(places, spans, strict=True))
        return [by_place[place] for place, _ in _trained(messages, first)]

    def _spans_by_prefix(
        self, talk: Conversation, template: str, text: str, first: int
    ) -> Iterator[Span]:
        """By rendering the turns before each answer, which have to be what the text begins with."""
        messages = talk.messages
        for place, _ in _trained(messages, first):
            earlier = talk._replace(messages=messages[:place])
            before, _ = self._render(earlier, template, add_generation_prompt=True)
            through = text
            if place + 1 < len(messages):
                through, _ = self._render(talk._replace(messages=messages[: place + 1]), template)
            through = through.rstrip()
            if not (text.startswith(before) and text.startswith(through)):
                raise ValueError(
                    "the chat template rewrites earlier turns, so what the assistant writes cannot "
                    f"be told apart; {WAY_OUT}, or set loss_on: all"
                )
            yield len(before), len(through)

    def _trimmed(self, text: str, span: Span) -> Span:
        """Without what the generation prompt has already written, the line break after the end
        token, and an end token at which generation goes on."""
        start, end = span
        written, prompt = text[start:end], self._prompt
        shared = [
            len(prompt) - known
            for known in range(len(prompt))
            if written.startswith(prompt[known:]) and text.endswith(prompt[:known], 0, start)
        ]
        opened = next((token for token in self._added if written.startswith(token)), "")
        if shared:
            start += shared[0]
        elif prompt.startswith(opened):  # DeepSeek's prompt goes on with a thought
            start += len(opened)
        end = start + len(text[start:end].rstrip())
        for token in self._inner:
            if text[start:end].endswith(token):
                end -= len(token)
        return start, end

    def _generation_prompt(self) -> str:
        """What the template writes where the assistant is to answer."""
        asked = Conversation([{"role": "user", "content": "?"}])
        template = self._template(asked)
        try:
            without, _ = self._render(asked, template)
            text, _ = self._render(asked, template, add_generation_prompt=True)
        except ValueError:
            return ""
        shared = os.path.commonprefix([text, without])  # noqa: RUF071 (no paths)
        return text[len(shared) :]

    def _later(self, what: str, template: str) -> bool:
        """Whether the template writes calls, or the turns of tools; it may refuse such turns."""
        if (what, template) not in self._writes_later:
            try:
                text, _ = self._render(Conversation(LATER[what]), template)
            except ValueError:
                text = chat_template.MARK
            self._writes_later[what, template] = chat_template.MARK in text
        return self._writes_later[what, template]

    def _check(self, talk: Conversation, text: str, template: str) -> None:
        """Templates leave out what they do not know, where a reader expects it."""
        for tool in talk.tools:
            name = tool.get("function", tool).get("name")
            if name is not None and str(name) not in text:
                raise ValueError(
                    f"the chat template does not write the tool {shown(name)}; give the stage a "
                    "`chat_template:` file that writes tools, or data without the column `tools`"
                )
        for turn in talk.messages:
            names = [call["function"]["name"] for call in turn.get("tool_calls", ())]
            calls = self._later("tool_calls", template) if names else True
            missing = [name for name in names if name not in text or not calls]
            said, role = turn["content"].strip(), turn["role"]
            if said and (
                (role == "tool" and not self._later("tool", template))
                or (role == "developer" and said not in text)
            ):
                missing.append(role)
            if missing:
                raise ValueError(
                    f"the chat template does not write the turn of {shown(missing[0])}; give the "
                    "stage a `chat_template:` file that does"
                )


_renderings: WeakKeyDictionary[PreTrainedTokenizerBase, Rendering] = WeakKeyDictionary()


def _trained(messages: Messages, first: int) -> list[tuple[int, Message]]:
    """The turns of the assistant from `first` on, with their places; OpenAI's `weight: 0` takes
    one out."""
    return [
        (place, turn)
        for place, turn in enumerate(messages)
        if place >= first and turn["role"] == "assistant" and turn.get("weight") != 0
    ]


def _with_text_arguments(turn: Message) -> Message:
    if not turn.get("tool_calls"):
        return turn
    calls = [
        call | {"function": call["function"]
                | {"arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}}
        for call in turn["tool_calls"]
    ]  # fmt: skip
    return turn | {"tool_calls": calls}
