"""Whether packed forwards are right for a model's architecture, shown on a small model of it.

The small model has the class and the configuration of the real one, two layers, a vocabulary of a
few tokens and fixed random weights, and computes in float32: there a wrong mask or position stands
out, while bfloat16 rounding of real weights moves the worst of 49,152 log-probabilities by more
than such an error would. Every model of one architecture gets the same answer, whatever its
weights, so all cells of a sweep are scored by one class.
"""

import copy
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from trainers.inference.prefix_attention import Attend, Carry, Span
from trainers.inference.prefix_tree import find

LAYERS = 2
VOCABULARY = 16
SEED = 0
GAIN = 1.5
"""Weights are normal with GAIN / sqrt(inputs): attention then differs from token to token."""

PROBE = (
    (0, 1, 2, 3, 4, 5), (0, 1, 2, 6, 7), (0, 1, 2, 6, 8, 9, 3), (5, 4), (*range(9, 16), *range(16)),
)  # fmt: skip
"""Sequences of token ids, some with shared beginnings, computed in both ways."""

SPAN = 5
"""Tokens of a span, so that later spans see keys of earlier ones."""

LARGEST_DIFFERENCE = 1e-3
"""Of a log-probability in float32 between the two ways."""

MEAN_DIFFERENCE = 0.1
"""Of log-probabilities in the dtype that the model computes in, where that is shorter."""


class Unservable(Exception):
    """The model has something that packed forwards do not cover; the message says what."""


_known: dict[tuple[Any, ...], str] = {}
"""What was shown in this process: why an architecture cannot be served, "" where it can."""


def check(decoder: Any) -> None:
    """Compare packed forwards with the plain ones of a small model like that of `decoder`.

    Raises:
        Unservable: they differ, or the model does not take them.
    """
    model = decoder.model
    key = type(model), model.config.to_json_string(), model.device, model.dtype
    if key not in _known:
        try:
            _compare(type(decoder), model)
        except Unservable as error:
            _known[key] = str(error)
        else:
            _known[key] = ""
    if _known[key]:
        raise Unservable(_known[key])


def _compare(decoder_type: Any, model: PreTrainedModel) -> None:
    try:
        small = _small(model)
        with torch.inference_mode():
            expected = _plain(small)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise Unservable(f"no small model of its kind: {type(error).__name__}: {error}") from error
    largest = _difference(expected, _packed(decoder_type(small, proved=True))).max()
    if not float(largest) <= LARGEST_DIFFERENCE:
        raise Unservable(f"packed tokens give other log-probabilities, by {largest:.2g}")
    if model.dtype == torch.float32:
        return
    short = _packed(decoder_type(small.to(model.dtype), proved=True))
    mean = _difference(expected, short).mean()
    if not float(mean) <= MEAN_DIFFERENCE:
        raise Unservable(f"in {model.dtype} log-probabilities are off by {mean:.2g} on average")


def _small(model: PreTrainedModel) -> Any:
    config = copy.deepcopy(model.config)
    text: Any = config.get_text_config()
    text.num_hidden_layers = min(LAYERS, text.num_hidden_layers)
    text.vocab_size = VOCABULARY
    text.pad_token_id = text.bos_token_id = text.eos_token_id = None
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    config._attn_implementation = "eager"
    kind: Any = type(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        small = kind(config).float().eval()
        with torch.no_grad():
            for parameter in small.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=GAIN / parameter.shape[-1] ** 0.5)
    return small.to(model.device)


def _plain(model: Any) -> list[torch.Tensor]:
    return [model(torch.tensor([tokens], device=model.device)).logits[0] for tokens in PROBE]


def _packed(decoder: Any) -> list[torch.Tensor]:
    """The logits of each sequence of the probe, from packed forwards in small spans."""
    prefixes = find(PROBE)
    carry: Carry | None = None
    hidden = []
    try:
        with decoder.attached():
            for start in range(0, len(prefixes.tokens), SPAN):
                stop = min(start + SPAN, len(prefixes.tokens))
                span: Attend = Span(prefixes, start, stop, carry, decoder.like)
                tokens, depths = prefixes.tokens[start:stop], prefixes.depths[start:stop]
                hidden.append(decoder.body(tokens, depths, span))
                carry = span.next_carry()
            logits = decoder.head(torch.cat(hidden))
    except (NotImplementedError, TypeError, AttributeError, RuntimeError) as error:
        raise Unservable(f"packed tokens: {type(error).__name__}: {error}") from error
    return [logits[decoder.like.index(np.asarray(path))] for path in prefixes.paths]


def _difference(expected: list[torch.Tensor], packed: list[torch.Tensor]) -> torch.Tensor:
    """Between log-probabilities, of every token at every place."""
    parts = zip(expected, packed, strict=True)
    return torch.cat([(_logs(a) - _logs(b)).abs().flatten() for a, b in parts])


def _logs(logits: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1)
