"""Tokenizers of model families: the real chat template, as TRL ships it, and the family's special
tokens, over the tiny model's vocabulary."""

import copy
import importlib.util
import re
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from trainers.models import tiny

FAMILIES = {
    "qwen3": ("<|im_end|>", None),
    "qwen3_5_think": ("<|im_end|>", None),
    "phi3": ("<|endoftext|>", "<s>"),
    "deepseekv3": ("<\uff5cend▁of▁sentence\uff5c>", "<\uff5cbegin▁of▁sentence\uff5c>"),
    "gptoss": ("<|return|>", "<|startoftext|>"),
    "llama3_2": ("<|eot_id|>", "<|begin_of_text|>"),
    "gemma": ("<eos>", "<bos>"),
    "gemma3": ("<eos>", "<bos>"),
    "qwen2_5": ("<|endoftext|>", None),
}
"""Template of TRL -> end token and first token of a tokenizer of the family; Qwen2.5's is the base
model's, whose end token ends no turn."""

SPECIAL = re.compile("<[|\uff5c]?[\\w▁]+[|\uff5c]?>")


def template(family: str) -> str:
    spec = importlib.util.find_spec("trl")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    return (folder / f"{family}.jinja").read_text(encoding="utf-8")


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """As it comes from the hub: nothing is completed yet."""
    eos, bos = FAMILIES[family]
    made = copy.deepcopy(tiny.tokenizer())
    made.chat_template = template(family)
    tokens = {*SPECIAL.findall(template(family)), "<|im_end|>", "<|im_start|>", "<|end|>"}
    made.add_tokens(sorted(tokens - {eos, bos}), special_tokens=False)
    made.add_special_tokens({"eos_token": eos} | ({"bos_token": bos} if bos else {}))
    return made
