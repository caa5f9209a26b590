"""When an answer ends, as lm-eval's stock class decides it, and which answers it has to give."""

from typing import Any

PLAIN_SETTINGS = {"do_sample": False, "temperature": 0.0}
"""What the settings of a request may say beside `until` and `max_gen_toks`."""

PLAIN_CONFIG = {
    "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_p", "top_k",
    "min_p", "typical_p", "max_length", "use_cache", "transformers_version", "output_attentions",
    "output_hidden_states", "_from_model_config", "return_dict_in_generate", "output_scores",
}  # fmt: skip
"""Keys of a model's generation config that change nothing in greedy decoding."""


def not_greedy(settings: Any, model: Any) -> str | None:
    """What asks for more than the most probable token each time, or None."""
    for key, value in settings.items():
        if key not in ("until", "max_gen_toks") and PLAIN_SETTINGS.get(key, object()) != value:
            return f"{key}: {value}"
    for key, value in model.generation_config.to_diff_dict().items():
        if key not in PLAIN_CONFIG and value is not None:
            return f"the model's generation config has {key}: {value}"
    return None


class Stop:
    """Whether an answer ends with its last token, as HFLM decides it for an answer on its own."""

    def __init__(self, model: Any, tokenizer: Any, until: list[str]):
        ends = model.generation_config.eos_token_id
        self.ends = set(ends) if isinstance(ends, list) else {ends}
        self.tokenizer = tokenizer
        # lm-eval looks back two tokens more than the stop string has, decoded each time
        self.until = [
            (text, len(tokenizer.encode(text, add_special_tokens=False)) + 2) for text in until
        ]
        self.window = max((window for _, window in self.until), default=0)

    def __call__(self, tokens: list[int]) -> bool:
        if tokens[-1] in self.ends:
            return True
        recent = self.tokenizer.decode(tokens[-self.window :])
        return any(
            text in recent and text in self.tokenizer.decode(tokens[-window:])
            for text, window in self.until
        )
