"""lm-eval's model class, made fast: the same log-likelihoods and texts, each distinct prefix once.

    lm = scoring.open_lm(model, tokenizer)      # an lm-eval LM, for simple_evaluate and the like

Tokenisation, chat template, truncation and stop strings are those of HFLM, the stock class, which
this one inherits. What differs is the arithmetic: choices of an item share their context, items
share a preamble or a system prompt (`trainers/inference/prefix_tree.py`), tokens of many items are
packed into one row without padding (`trainers/inference/prefix_attention.py`), the head sees the
positions that count alone (`trainers/inference/logprobs.py`), and answers are generated with
continuous batching (`trainers/inference/generation.py`). Log-likelihoods that will be asked for on
an answer's prompt are read off the pass over that prompt (`expecting`).
"""

import copy
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models import huggingface
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trainers.inference import generation, stopping
from trainers.inference.decoder import Decoder, Unservable
from trainers.inference.logprobs import Encoded, Targets
from trainers.inference.prefix_tree import find
from trainers.inference.token_budget import Budget, Forward
from trainers.processes import devices

HFLM: Any = huggingface.HFLM
"""The stock class; its decorator hides its type."""

Continuations = Callable[[Instance], Iterable[tuple[str, str]]]


def open_lm(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stock_batch_size: int = 1
) -> Any:
    """The fast class, or the stock one with a warning where the model's architecture needs it."""
    try:
        decoder = Decoder(model)
    except Unservable as reason:
        warnings.warn(f"lm-eval's stock model class is used: {reason}", stacklevel=2)
        return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=stock_batch_size)
    return SharedPrefixLM(decoder, tokenizer, stock_batch_size)


def begin(lm: Any) -> None:
    """Forget what `description` says of the requests so far."""
    if isinstance(lm, SharedPrefixLM):
        lm.cut, lm.stock_generation = set(), False


def description(lm: Any) -> dict[str, Any]:
    """What computed a score, for its record: the class, its dtype and its device; and how many
    distinct prompts since `begin` were longer than the model's context, which cuts off their
    beginning (None where lm-eval's own class does not say)."""
    model = getattr(lm, "model", None)
    own = isinstance(lm, SharedPrefixLM)
    facts = {
        "model_class": HFLM.__name__ if own and lm.stock_generation else type(lm).__name__,
        "cut_prompts": len(lm.cut) if own else None,
    }
    if not isinstance(model, torch.nn.Module):
        return facts
    return {
        **facts,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": devices.name() if model.device.type == "cuda" else model.device.type,
    }


def in_bfloat16(model: PreTrainedModel) -> PreTrainedModel:
    """A copy for scoring whose weights are bfloat16, or those in 4 bits themselves. Buffers stay as
    they are: the frequencies of the positions in bfloat16 would turn position 1,000 by more than a
    radian."""
    weights: dict[int, Any] = {
        id(weight): torch.nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        if weight.is_floating_point()
        else weight
        for weight in model.parameters()
    }
    return copy.deepcopy(model, weights)  # takes what it is given for copied


class SharedPrefixLM(HFLM):
    def __init__(self, decoder: Decoder, tokenizer: Any, stock_batch_size: int = 1):
        training = decoder.model.training
        super().__init__(pretrained=decoder.model, tokenizer=tokenizer, batch_size=stock_batch_size)
        decoder.model.train(training)  # the stock class switches to evaluation for good
        self.decoder = decoder
        self.tally = generation.Tally()
        self.most_new_tokens: int | None = None
        """Cuts answers off, for who measures speed alone."""
        self._encoded: dict[str, list[int]] = {}
        """Texts of the requests at hand; see `_at_once`."""
        self._expected: Continuations | None = None
        self._known: dict[tuple[str, str] | None, tuple[float, bool]] = {}
        """Log-likelihoods computed along with answers, until they are asked for."""
        self.cut: set[str] = set()
        """Prompts that have lost their beginning."""
        self.stock_generation = False
        """Whether answers were the stock class's."""

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        pairs: list[Any] = [request.args for request in requests]
        with self._at_once(pairs):
            return super().loglikelihood(requests, disable_tqdm)

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **options: Any,
    ) -> list[int]:
        if add_special_tokens is None and left_truncate_len is None and string in self._encoded:
            return self._encoded[string]
        return super().tok_encode(string, add_special_tokens, left_truncate_len, **options)

    @contextmanager
    def _at_once(self, pairs: Iterable[tuple[str, str]]) -> Iterator[None]:
        """While open, `tok_encode` knows what `_encode_pair` asks of each (context, continuation):
        a tokenizer is quicker with many texts at once than with one after another."""
        texts = []
        for context, continuation in pairs:
            stem = context.rstrip()  # its spaces at the end go with the continuation
            if stem:
                texts += [stem, context + continuation]
        self._encoded = self._tokens(texts, self.tokenizer.decode(self.prefix_token_id))
        try:
            yield
        finally:
            self._encoded = {}

    def _tokens(self, texts: Iterable[str], start: str | None) -> dict[str, list[int]]:
        """Of each text its tokens; one that begins with `start` gets no special tokens."""
        distinct = dict.fromkeys(texts)
        encodings: dict[str, list[int]] = {}
        for bare in (True, False):
            some = [text for text in distinct if has_bos_prefix(text, start) == bare]
            if some:
                special = {"add_special_tokens": False} if bare else {}
                encoded = self.tokenizer(some, return_attention_mask=False, **special)
                encodings |= zip(some, encoded["input_ids"], strict=True)
        return encodings

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
        for texts, context, continuation in requests:
            if texts is not None and len(context) + len(continuation) > self.max_length + 1:
                self.cut.add(texts[0])
        left = [number for number, (texts, *_) in enumerate(requests) if texts not in self._known]
        scored = dict(zip(left, self._score([requests[number] for number in left]), strict=True))
        answers = []
        for number, (texts, *_) in enumerate(requests):
            answer = scored[number] if number in scored else self._known[texts]
            answers.append(answer)
            if texts is not None:  # windows of a rolling log-likelihood have none
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        for texts, *_ in requests:
            self._known.pop(texts, None)
        return answers

    def _score(self, requests: list[Encoded]) -> list[tuple[float, bool]]:
        if not requests:
            return []
        targets = Targets(requests, self.max_length)
        prefixes = find(targets.sequences)
        targets.lie(prefixes.paths)
        with self.decoder.attached():
            budget = Budget(self.decoder, self.max_length)
            forward = Forward(self.decoder, prefixes, budget)
            forward.up_to(
                len(prefixes.tokens),
                lambda span, hidden: targets.read(self.decoder, span, hidden, budget.head),
            )
        self.tally.tokens += len(prefixes.tokens)
        return targets.answers()

    @property
    def known(self) -> dict[Any, tuple[float, bool]]:
        """Log-likelihoods computed along with answers, until they are asked for, by (context,
        continuation); who computes answers elsewhere adds theirs."""
        return self._known

    def expected(self, request: Instance) -> list[tuple[str, str]]:
        """What will be asked for after a request for an answer."""
        return [] if self._expected is None else list(self._expected(request))

    @contextmanager
    def expecting(self, texts: Continuations) -> Iterator[None]:
        """While open, `texts` says of a request for an answer which (context, continuation) will be
        asked for after it: their log-likelihoods come from the same forward passes."""
        self._expected = texts
        try:
            yield
        finally:
            self._expected = None
            self._known.clear()

    def _ahead(self, requests: list[Any]) -> list[Encoded]:
        """What will be asked for after these requests for answers, each once."""
        if self._expected is None:
            return []
        texts = dict.fromkeys(pair for request in requests for pair in self._expected(request))
        pairs = [pair for pair in texts if pair[0]]
        with self._at_once(pairs):
            return [(pair, *self._encode_pair(*pair)) for pair in pairs]

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
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(settings["until"], eos=end)
        room = self.max_length - settings["max_gen_toks"]
        if room <= 0:
            raise ValueError(
                f"max_gen_toks {settings['max_gen_toks']} leaves no room for a prompt in the "
                f"model's {self.max_length} tokens"
            )
        encoded = self._tokens((request.args[0] for request in requests), self.tokenizer.bos_token)
        prompts = [encoded[request.args[0]] for request in requests]
        self.cut |= {
            request.args[0]
            for request, prompt in zip(requests, prompts, strict=True)
            if len(prompt) > room
        }
        reason = stopping.not_greedy(settings, self.model) or self.think_end_token
        if reason:
            warnings.warn(f"lm-eval's stock generation is used: {reason}", stacklevel=2)
            self.stock_generation = True
            return None
        prompts = [prompt[-room:] for prompt in prompts]
        longest = settings["max_gen_toks"]
        most = min(longest, self.most_new_tokens or longest)
        ahead = self._ahead(requests)
        targets = Targets(ahead, self.max_length) if ahead else None
        with self.decoder.attached():
            answers = generation.generate(
                self.decoder,
                prompts,
                most,
                stopping.Stop(self.model, self.tokenizer, until),
                Budget(self.decoder, self.max_length),
                self.tally,
                targets,
            )
        self.tally.cut += sum(len(answer) == most < longest for answer in answers)
        if targets is not None:
            self._known |= zip((texts for texts, *_ in ahead), targets.answers(), strict=True)
        texts = []
        for request, answer in zip(requests, answers, strict=True):
            text = postprocess_generated_text(self.tok_decode(answer), until, None)
            texts.append(text)
            self.cache_hook.add_partial("generate_until", request.args, text)
        return texts
