"""lm-eval's model class, made fast: the same log-likelihoods and texts, each distinct prefix once.

    lm = scoring.open_lm(model, tokenizer)      # an lm-eval LM, for simple_evaluate and the like

Tokenisation, chat template, truncation and stop strings are those of HFLM, the stock class, which
this one inherits. What differs is the arithmetic: choices of an item share their context, items
share a preamble or a system prompt (`trainers/prefixes.py`), tokens of many items are packed into
one row without padding (`trainers/attention.py`), the head sees the positions that count alone, and
answers are generated with continuous batching (`trainers/generation.py`).
"""

import itertools
import json
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lm_eval.api.instance import Instance
from lm_eval.models import huggingface
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainers import generation, stopping
from trainers.attention import Span
from trainers.budget import Budget, Forward
from trainers.decoder import Decoder, Unservable
from trainers.prefixes import Prefixes, find

HFLM: Any = huggingface.HFLM
"""The stock class; its decorator hides its type."""

Encoded = tuple[tuple[str, str] | None, list[int], list[int]]
"""lm-eval's form of a request: its texts, the context's tokens and the continuation's."""


def open_lm(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stock_batch_size: int = 1
) -> Any:
    """The fast class, or the stock one with a warning where the model needs it."""
    try:
        decoder = Decoder(model)
    except Unservable as reason:
        warnings.warn(f"lm-eval's stock model class is used: {reason}", stacklevel=2)
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=stock_batch_size)
    return SharedPrefixLM(decoder, tokenizer, stock_batch_size)


class SharedPrefixLM(HFLM):
    def __init__(self, decoder: Decoder, tokenizer: Any, stock_batch_size: int = 1):
        training = decoder.model.training
        super().__init__(pretrained=decoder.model, tokenizer=tokenizer, batch_size=stock_batch_size)
        decoder.model.train(training)  # the stock class switches to evaluation for good
        self.decoder = decoder
        self.tally = generation.Tally()

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        stock_batch_size = self.batch_size_per_gpu
        self.batch_size_per_gpu = 1 << 30  # all windows at once: they are cut by tokens below
        try:
            return super().loglikelihood_rolling(requests, disable_tqdm)
        finally:
            self.batch_size_per_gpu = stock_batch_size

    def _loglikelihood_tokens(
        self, requests: list[Encoded], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        if not requests:
            return []
        wanted = _wanted(requests, self.max_length)
        with self.decoder.attached():
            values, greedy = _score(self.decoder, wanted, Budget(self.decoder, self.max_length))
        self.tally.tokens += len(wanted.prefixes.tokens)
        answers = []
        for (texts, *_), part in zip(requests, wanted.parts, strict=True):
            answer = (float(values[part].sum()), bool(greedy[part].all()))
            answers.append(answer)
            if texts is not None:  # windows of a rolling log-likelihood have none
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        alike: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            _, settings = request.args
            alike.setdefault(json.dumps(settings, default=str), []).append(index)
        texts = [""] * len(requests)
        for indices in alike.values():
            some = [requests[index] for index in indices]
            said = self._generate(some) or super().generate_until(some, disable_tqdm)
            for index, text in zip(indices, said, strict=True):
                texts[index] = text
        return texts

    def _generate(self, requests: list[Any]) -> list[str] | None:
        """Answers to requests with the same settings; None where the stock class has to give
        them."""
        _, asked = requests[0].args
        settings: dict[str, Any] = dict(normalize_gen_kwargs(asked, self.max_gen_toks))
        reason = stopping.not_greedy(settings, self.model) or self.think_end_token
        if reason:
            warnings.warn(f"lm-eval's stock generation is used: {reason}", stacklevel=2)
            return None
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(settings["until"], eos=end)
        room = self.max_length - settings["max_gen_toks"]
        if room <= 0:
            raise ValueError(
                f"max_gen_toks {settings['max_gen_toks']} leaves no room for a prompt in the "
                f"model's {self.max_length} tokens"
            )
        prompts = []
        for request in requests:
            tokens, _ = self.tok_batch_encode(
                [request.args[0]], left_truncate_len=room, truncation=self.truncation
            )
            prompts.append(tokens[0].tolist())
        with self.decoder.attached():
            answers = generation.generate(
                self.decoder,
                prompts,
                settings["max_gen_toks"],
                stopping.Stop(self.model, self.tokenizer, until),
                Budget(self.decoder, self.max_length),
                self.tally,
            )
        texts = []
        for request, answer in zip(requests, answers, strict=True):
            text = postprocess_generated_text(self.tok_decode(answer), until, None)
            texts.append(text)
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts


class Wanted(NamedTuple):
    """The log-probabilities that the requests ask for, each at a place of the distinct prefixes."""

    prefixes: Prefixes
    places: np.ndarray
    targets: np.ndarray
    """Token whose log-probability after the place counts."""
    parts: list[slice]
    """Of each request, into `places` and `targets`."""


def _wanted(requests: list[Encoded], max_length: int) -> Wanted:
    """Cut from the left where context and continuation are longer than the model's length."""
    sequences = []
    for _, context, continuation in requests:
        if not context or not 0 < len(continuation) <= max_length:
            raise ValueError(
                f"a request of {len(context)} + {len(continuation)} tokens; context and "
                f"continuation need one at least, and the continuation at most {max_length}"
            )
        sequences.append((context + continuation)[-(max_length + 1) : -1])
    prefixes = find(sequences)
    ends = np.cumsum([0, *(len(continuation) for *_, continuation in requests)])
    return Wanted(
        prefixes,
        np.concatenate(
            [path[-len(r[2]) :] for path, r in zip(prefixes.paths, requests, strict=True)]
        ),
        np.concatenate([np.array(continuation) for *_, continuation in requests]),
        [slice(start, stop) for start, stop in itertools.pairwise(ends)],
    )


def _score(decoder: Decoder, wanted: Wanted, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each target, and whether it is the most probable token."""
    values = np.empty(len(wanted.places))
    greedy = np.empty(len(wanted.places), dtype=bool)
    order = np.argsort(wanted.places, kind="stable")
    sorted_places = wanted.places[order]

    def use(span: Span, hidden: torch.Tensor) -> None:
        first, last = np.searchsorted(sorted_places, [span.start, span.stop])
        places, which = np.unique(sorted_places[first:last] - span.start, return_inverse=True)
        for start in range(0, len(places), budget.head):
            some = places[start : start + budget.head]
            inside = np.flatnonzero((which >= start) & (which < start + len(some)))
            asked = order[first + inside]
            logits = decoder.head(hidden[decoder.like.index(some)]).float()
            # torch's log_softmax on a CPU is 1e-5 off; like lm-eval's numbers, so are these
            logs = F.log_softmax(logits, dim=-1)
            rows = decoder.like.index(which[inside] - start)
            best = logs.argmax(-1).cpu().numpy()
            values[asked] = logs[rows, decoder.like.index(wanted.targets[asked])].cpu().numpy()
            greedy[asked] = best[which[inside] - start] == wanted.targets[asked]

    forward = Forward(decoder, wanted.prefixes, budget)
    forward.up_to(len(wanted.prefixes.tokens), use)
    return values, greedy
