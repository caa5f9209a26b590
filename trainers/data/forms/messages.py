"""The turns of a conversation, in any form that data sets store them -> one form, OpenAI's:
`{"role": ..., "content": text, ...}`. Loads no torch.

Known forms: lists of messages with role/content, from/value (ShareGPT) or content as a list of
parts; the same as JSON text in a column; transcripts `\\n\\nHuman: ...\\n\\nAssistant: ...`
(Anthropic's HH-RLHF).
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
Messages = list[Message]

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",  # OpenAssistant
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",  # Gemma
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",  # LLaMA-Factory's ShareGPT
    "function_call": "assistant",
}
"""Role in the data, in lower case -> role in a chat template."""

SPEAKER, SAID = ("role", "from"), ("content", "value")
"""Keys of a message, the usual name first."""

TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")

LONGEST = 60
"""Characters of a value that a message of an error shows."""


def shown(value: Any) -> str:
    """A value for a message of an error."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return repr(text) if isinstance(value, str) else text


def messages(value: Any, column: str) -> Messages:
    """The messages in a column: a list of them, JSON text of one, or a transcript.

    Raises:
        ValueError: the value is none of these, or a message has an unknown role or content.
    """
    parsed = parsed_messages([value] if isinstance(value, dict) else value)
    if parsed is None and isinstance(value, str):
        parsed = transcript(value)
    if parsed is None:
        raise ValueError(
            f"`{column}` is {shown(value)}; give a list of messages, each with role and content"
        )
    return [message(entry, column, place) for place, entry in enumerate(parsed)]


def answer(value: Any, column: str, role: str, asked: Sequence[Message] = ()) -> Messages:
    """The messages in a column that may also hold the text of a single one, said by `role`.

    A text that holds messages is such a text itself, a dialogue or JSON that was `asked` for,
    unless it begins with the assistant or one of its turns repeats paragraphs of what was asked.

    Raises:
        ValueError: see `messages`.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value) if value % 1 == 0 else value)  # pandas makes 18 to 18.0
    if not isinstance(value, str):
        return messages(value, column)
    asked = [turn for turn in asked if turn["content"].strip()]
    parsed = parsed_messages(value)
    written = are_messages(parsed, known=bool(asked))
    turns = messages(value, column) if written else transcript(value)
    if turns and asked and turns[0]["role"] != "assistant" and not _repeated(asked, turns):
        turns = None
    return turns or [{"role": role, "content": value}]


def are_messages(parsed: list[Any] | None, known: bool) -> bool:
    """Whether a list of objects is one of messages, and not an answer in JSON; `known`: of known
    roles alone."""
    return bool(parsed) and all(
        entry.keys() & {*SPEAKER}
        and entry.keys() & {*SAID, "tool_calls"}
        and (not known or _role(entry) in ROLES)
        for entry in parsed or ()
    )


def _role(entry: Message) -> str | None:
    """In lower case, as in `ROLES`; None where it is no text."""
    speaker = next((entry[key] for key in SPEAKER if entry.get(key) is not None), None)
    return speaker.strip().lower() if isinstance(speaker, str) else None


def behind(asked: Messages, said: Messages) -> Messages | None:
    """What is asked and what is said to it, which may repeat turns of it; None where it opens with
    another question."""
    if not asked or not said or said[0]["role"] == "assistant":
        return asked + said
    asked = [turn for turn in asked if turn["content"].strip() or turn.keys() > {"role", "content"}]
    for place in range(len(asked)):
        end = asked[place:]
        if len(end) <= len(said) and all(map(_alike, end, said)):
            return asked[:place] + said
    missing = [turn for turn in asked if not any(_alike(turn, other) for other in said)]
    if all(turn["role"] in ("system", "developer") for turn in missing):
        return missing + said
    return None if asked[-1]["role"] == "user" else asked + said


def _repeated(asked: Sequence[Message], turns: Messages) -> bool:
    """Whether a turn has the words of one that was asked, or of whole paragraphs of it."""
    said = {(turn["role"], turn["content"].strip()) for turn in turns if turn["content"].strip()}
    return any(
        role == turn["role"] and f"\n\n{words}\n\n" in _paragraphs(turn["content"])
        for turn in asked
        for role, words in said
    )


def _paragraphs(text: str) -> str:
    return f"\n\n{TRANSCRIPT.sub('', text.strip(), count=1).strip()}\n\n"


def _alike(one: Message, other: Message) -> bool:
    return one["role"] == other["role"] and one["content"].strip() == other["content"].strip()


def parsed_messages(value: Any) -> list[Any] | None:
    """A list of messages, or the one that JSON text (or a printed Python list, as pandas writes it)
    holds; None of other values, for instance of a text that happens to begin with a bracket."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = _literal(value)
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        known = {*SPEAKER, *SAID}
        return value if not value or known & value[0].keys() else None
    return None


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def transcript(text: str) -> Messages | None:
    """The turns of a transcript in HH-RLHF's form, or None where the text is none.

    A transcript begins with `Human:` and has an `Assistant:`. An empty last answer, with which a
    prompt ends, is left out.
    """
    if not text.lstrip().startswith("Human:") or "\n\nAssistant:" not in text:
        return None
    parts = TRANSCRIPT.split(text.lstrip())
    turns = [
        {"role": "user" if speaker == "Human" else "assistant", "content": said.strip()}
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns


def message(entry: Any, column: str, place: int) -> Message:
    """One message with the keys `role` and `content`; keys without a value are left out.

    Raises:
        ValueError: it has no role, an unknown one, or content that is no text.
    """
    where = f"`{column}[{place}]`"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {shown(entry)}; give an object with role and content")
    entry = {key: value for key, value in entry.items() if value is not None}
    speaker = next((entry[key] for key in SPEAKER if key in entry), None)
    role = ROLES.get(_role(entry) or "")
    if role is None:
        known = ", ".join(ROLES)
        raise ValueError(f"{where} has the role {shown(speaker)}; use one of {known}")
    said = next((entry[key] for key in SAID if key in entry), None)
    rest = {key: value for key, value in entry.items() if key not in (*SPEAKER, *SAID)}
    if str(rest.get("weight", 1)) not in ("0", "1", "0.0", "1.0", "True", "False"):
        raise ValueError(f"{where} has the weight {shown(rest['weight'])}; use 0 or 1")
    if "weight" in rest:
        rest["weight"] = int(str(rest["weight"]) in ("1", "1.0", "True"))
    content = _content(said, where)
    if speaker == "function_call":  # its value is the call
        return {"role": role, "content": "", "tool_calls": [_call(content, where)], **rest}
    if rest.get("function_call"):  # OpenAI's older form
        rest["tool_calls"] = [rest.pop("function_call")]
    if rest.get("tool_calls"):
        rest["tool_calls"] = [_call(call, where) for call in _list(rest["tool_calls"], where)]
    else:
        rest.pop("tool_calls", None)  # templates ask whether the key is there
    if said is None and not rest:
        raise ValueError(f"{where} has no content")
    return {"role": role, "content": content, **rest}


def _content(said: Any, where: str) -> str:
    """Text; of a list of parts, its text parts, a line each."""
    match said:
        case None:
            return ""
        case str():
            return said
        case [*parts]:
            return "\n".join(_part(part, where) for part in parts)
        case dict():
            return _part(said, where)
        case _:
            raise ValueError(f"{where} has the content {shown(said)}; give a text")


def _part(part: Any, where: str) -> str:
    match part:
        case str():
            return part
        case {"text": str(text)} if part.get("type") in (None, "text", "input_text", "output_text"):
            return text
        case _:
            kind = part.get("type") if isinstance(part, dict) else part
            raise ValueError(
                f"{where} has a part of type {shown(kind)}; only text is read, as "
                '{"type": "text", "text": ...}'
            )


def _call(call: Any, where: str) -> Message:
    """A function call as templates expect it: `{"type": "function", "function": {name, arguments}}`
    with the arguments as an object."""
    if isinstance(call, str):
        call = _literal(call)
    if not isinstance(call, dict):
        raise ValueError(f"{where} has a tool call that is no object with name and arguments")
    function = {k: v for k, v in (call.get("function") or call).items() if v is not None}
    arguments = function.get("arguments", function.get("parameters", {}))
    if isinstance(arguments, str):
        parsed = _literal(arguments)
        arguments = parsed if isinstance(parsed, dict) else arguments
    if not isinstance(function.get("name"), str):
        raise ValueError(f"{where} has a tool call without a name: {shown(call)}")
    if isinstance(arguments, dict):  # columnar files fill in the keys of all other rows' calls
        arguments = {key: value for key, value in arguments.items() if value is not None}
    facts = {"id": call["id"]} if call.get("id") else {}
    return {
        **facts,
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def tools(value: Any) -> list[Any]:
    """The functions that an assistant may call, a list of JSON schemas or JSON text of one.

    Raises:
        ValueError: the value is neither.
    """
    calls = _literal(value) if isinstance(value, str) and value.strip() else value
    if calls in (None, "", []):
        return []
    calls = calls if isinstance(calls, list) else [calls]
    schemas = [tool for tool in calls if isinstance(tool, dict)]
    if len(schemas) < len(calls):
        raise ValueError(f"`tools` is {shown(value)}; give a list of JSON schemas")
    return [_schema(tool) for tool in schemas]


def _schema(tool: Message) -> Message:
    """In OpenAI's form, without the empty fields that columnar files add."""
    tool = _without_empty(tool)
    return tool if "function" in tool else {"type": "function", "function": tool}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(part) for key, part in value.items() if part is not None}
    return [_without_empty(part) for part in value] if isinstance(value, list) else value


def _list(value: Any, where: str) -> list[Any]:
    parsed = _literal(value) if isinstance(value, str) else value
    if not isinstance(parsed, list):
        raise ValueError(f"{where} has tool_calls {shown(value)}; give a list")
    return parsed
