"""The tiny model: a Llama of about a million parameters and its tokenizer, made here, always alike.

The tokenizer knows the words of the miniature world as whole tokens and every other text byte by
byte, so that it can encode anything.
"""

import functools
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trainers.world import generate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

MAX_LENGTH = 2048
"""Tokens; far more than any row of the world, so that stock benchmarks run on it too."""

SPECIAL = PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
"""In the order of their ids, which are the first ones."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""SmolLM2's ChatML, without its default system prompt."""


def tiny() -> "tuple[LlamaForCausalLM, PreTrainedTokenizerFast]":
    """Random weights from a fixed seed; torch's global random state is left as it was."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = tokenizer()
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=6,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.08,  # near 1/sqrt(hidden): such a small model learns faster from it
        bos_token_id=None,
        eos_token_id=SPECIAL.index(END),
        pad_token_id=SPECIAL.index(PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).float()
    return model, vocabulary


def tokenizer() -> PreTrainedTokenizerFast:
    """The world's words and single bytes; needs no torch."""
    split = _split()
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *_words()]
    vocabulary = {piece: i for i, piece in enumerate([*SPECIAL, *dict.fromkeys(pieces)])}
    # No merges: a piece is a known word, taken whole, or it stays the bytes it is made of.
    bpe = Tokenizer(models.BPE(vocabulary, merges=[], ignore_merges=True))
    bpe.pre_tokenizer = split
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        model_max_length=MAX_LENGTH,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )


@functools.cache
def _words() -> tuple[str, ...]:
    """The pieces of a large enough sample of the world to hold every one of its words."""
    texts = [row["text"] for row in generate.rows("pretrain", 1000, 0)]
    for row in generate.rows("sft", 2000, 0):
        texts += [message["role"] + "\n" + message["content"] for message in row["messages"]]
    pieces = _split().pre_tokenize_str("\n".join(texts))
    return tuple(sorted({piece for piece, _ in pieces}))
