"""What a chat template leaves out of a conversation. Loads no torch."""

import re
from functools import lru_cache

from trainers.data.forms.messages import Message, Messages
from trainers.models.chat_template import MARK

READ = ("role", "content", "tool_calls", "weight")
"""Keys of a message that are read whatever the template names."""

THOUGHTS = ("reasoning_content", "reasoning", "thinking")

_ASKED: Message = {"role": "user", "content": "?"}


def _calling(name: str) -> Message:
    call = {"type": "function", "id": "abcdefghi", "function": {"name": name, "arguments": {}}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


LATER: dict[str, Messages] = {
    "tool_calls": [_ASKED, _calling(MARK)],
    "tool": [
        _ASKED,
        _calling("f"),
        {"role": "tool", "content": MARK, "name": "f", "tool_call_id": "abcdefghi"},
    ],
}
"""What may stand in later turns -> a conversation in which it is `MARK`."""


def left_out(messages: Messages, template: str, written: list[tuple[Message, str]]) -> set[str]:
    """Keys of messages that the template does not name, and parts of the turns that are trained on
    which are not in what is `written` of them."""
    found = {
        f"the key `{key}` of messages"
        for turn in messages
        for key, value in turn.items()
        if key not in READ and value not in ("", [], {}) and not _names(template, key)
    }
    for turn, text in written:
        parts = {f"the key `{key}` of messages": turn.get(key) for key in THOUGHTS}
        if turn.get("tool_calls"):
            parts["what is said beside a call"] = turn["content"]
        found |= {
            part for part, said in parts.items()
            if isinstance(said, str) and said.strip() not in text
        }  # fmt: skip
    return found


@lru_cache
def _names(template: str, key: str) -> bool:
    return re.search(rf"['\".]{re.escape(key)}\b", template) is not None
