"""Greedy answers with continuous batching: one that is finished leaves, the next enters.

Each answer in progress has a slot in one buffer of keys and values per layer, allocated once. The
prompts are computed packed, each distinct prefix once, straight into the slots; after that every
step adds one token to all of them. transformers has continuous batching too (`generate_batch`). It
knows no stop strings, and on a CPU every step attends from all answers to the keys of all, gathered
anew and masked: `tests/bench/bench_eval.py --paged` sets it beside this one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from trainers.inference.decoder import Decoder
from trainers.inference.logprobs import Targets
from trainers.inference.prefix_attention import Like, Span
from trainers.inference.prefix_tree import find
from trainers.inference.token_budget import Budget, Forward, out_of_memory

MOST_SLOTS = 256
BUSY_SLOTS = 32
"""So many answers have the cores of a CPU busy at each step."""
READ_TOKENS = 16_384
"""A step reads all slots; on a CPU more of them pay only while they are this short together."""


@dataclass
class Tally:
    """What was computed, for those who judge the speed."""

    tokens: int = 0
    """Forwarded for log-likelihoods and prompts: each distinct prefix once."""
    steps: int = 0
    generated: int = 0
    """Tokens of answers, added up over the steps."""
    seen: int = 0
    """Keys that those tokens looked at."""
    slots: int = 0


def most_slots(device: str, longest: int) -> int:
    """Answers in progress at most, each of up to `longest` tokens with its prompt."""
    if device != "cpu":
        return MOST_SLOTS
    return min(max(BUSY_SLOTS, READ_TOKENS // longest), MOST_SLOTS)


Finished = Callable[[list[int]], bool]
"""Whether an answer ends with its last token, told of all its tokens so far."""


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    finished: Finished,
    budget: Budget,
    tally: Tally,
    targets: Targets | None = None,
) -> list[list[int]]:
    """The most probable continuation of each prompt, token by token, its last token included.

    `targets` are read off the passes over the prompts. Alike prompts are answered once. Out of
    memory, the answers not yet finished begin again with half the slots.
    """
    answers: dict[tuple[int, ...], list[int]] = {}
    while waiting := list({tuple(prompt) for prompt in prompts} - answers.keys()):
        batch = _Batch(decoder, waiting, max_new_tokens, budget, tally, targets)
        try:
            batch.run(finished, answers)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            del batch
            failed = True
        else:
            failed = False
        if failed:
            budget.halve()
    return [answers[tuple(prompt)] for prompt in prompts]


class Slots:
    """Keys and values of the answers in progress, which are the first slots; a step's attention."""

    def __init__(self, like: Like, layers: int, count: int, length: int):
        self.like, self.layers, self.count, self.length = like, layers, count, length
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.mask = torch.full((count, 1, 1, length), float("-inf"), dtype=like.dtype)
        self.mask = self.mask.to(like.device)

    def fill(self, layer: int, slot: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """A prompt's keys and values, `[heads, tokens, size]`, from one layer to the next."""
        if layer == len(self.keys):
            for buffers, states in ((self.keys, key), (self.values, value)):
                shape = (self.count, states.shape[0], self.length, states.shape[2])
                # zeros, since what is masked must be finite all the same
                buffers.append(torch.zeros(shape, dtype=states.dtype, device=states.device))
        self.keys[layer][slot, :, : key.shape[1]] = key
        self.values[layer][slot, :, : value.shape[1]] = value

    def open(self, slot: int, length: int) -> None:
        self.mask[slot] = float("-inf")
        self.mask[slot, ..., :length] = 0

    def move(self, source: int, target: int, length: int) -> None:
        for buffers in (self.keys, self.values):
            for buffer in buffers:
                buffer[target, :, :length] = buffer[source, :, :length]
        self.mask[target] = self.mask[source]

    def step(self, lengths: np.ndarray) -> None:
        """Make room for one more token in each of the first slots, after `lengths` of them."""
        self.active = torch.arange(len(lengths), device=self.like.device)
        self.ends = self.like.index(lengths)
        self.mask[self.active, 0, 0, self.ends] = 0
        self.longest = int(lengths.max()) + 1
        if self.like.device.type == "cuda":
            self.longest = min(-(-self.longest // 8) * 8, self.length)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        keys, values = self.keys[layer], self.values[layer]
        keys[self.active, :, self.ends] = key[0].transpose(0, 1)
        values[self.active, :, self.ends] = value[0].transpose(0, 1)
        count, heads = len(self.active), keys.shape[1]
        queries = query[0].transpose(0, 1).reshape(count, heads, -1, query.shape[-1])
        mask = self.mask[:count, :, :, : self.longest]
        seen = F.scaled_dot_product_attention(
            queries,
            keys[:count, :, : self.longest],
            values[:count, :, : self.longest],
            attn_mask=mask.expand(-1, -1, queries.shape[2], -1),
            scale=scale,
        )
        return seen.reshape(1, count, -1, value.shape[-1])


class _Answer:
    def __init__(self, prompt: tuple[int, ...]):
        self.prompt = prompt
        self.tokens: list[int] = []


class _Batch:
    def __init__(
        self,
        decoder: Decoder,
        prompts: list[tuple[int, ...]],
        max_new_tokens: int,
        budget: Budget,
        tally: Tally,
        targets: Targets | None,
    ):
        self.decoder, self.max_new_tokens, self.tally = decoder, max_new_tokens, tally
        self.targets = targets
        longest = -(-(max(map(len, prompts)) + max_new_tokens) // 8) * 8
        most = min(most_slots(decoder.like.device.type, longest), len(prompts))
        slots = max(min(budget.keys // (budget.key_bytes * longest), most), 1)
        self.prefixes = find([*prompts, *map(tuple, targets.sequences if targets else ())])
        paths = self.prefixes.paths
        if targets is not None:
            targets.lie(paths[len(prompts) :])
        ends = np.array([path[-1] for path in paths[: len(prompts)]])
        self.order = np.argsort(ends)
        self.ends = ends[self.order]
        self.prompts = prompts
        self.entered = 0
        self.budget, self.forward = budget, Forward(decoder, self.prefixes, budget)
        layers = decoder.config.get_text_config().num_hidden_layers
        self.slots = Slots(decoder.like, layers, slots, longest)
        tally.slots = slots
        self.active: list[_Answer] = []

    def run(self, finished: Finished, answers: dict[tuple[int, ...], list[int]]) -> None:
        while self.active or self.entered < len(self.prompts):
            free = self.slots.count - len(self.active)
            waiting = len(self.prompts) - self.entered
            if waiting and free >= min(max(self.slots.count // 8, 1), waiting):
                self._enter(min(free, waiting))
            else:
                self._step()
            for slot in reversed(range(len(self.active))):
                answer = self.active[slot]
                if len(answer.tokens) == self.max_new_tokens or finished(answer.tokens):
                    answers[answer.prompt] = answer.tokens
                    self._leave(slot)

    def _enter(self, count: int) -> None:
        """Compute the next prompts, in the order of the distinct prefixes: a first token each."""
        first = self.entered
        slot_of = {
            int(self.order[first + number]): len(self.active) + number for number in range(count)
        }
        batch = self

        class Prefill(Span):
            """Also copies each prompt that ends in the span to its slot."""

            def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
                super().store(layer, key, value)
                for sequence, slot in slot_of.items():
                    path = batch.prefixes.paths[sequence]
                    if self.start <= path[-1] < self.stop:
                        seen = self.like.index(self.where(path))
                        batch.slots.fill(
                            layer,
                            slot,
                            key[0].index_select(1, seen),
                            value[0].index_select(1, seen),
                        )

        tokens = np.empty(count, dtype=np.int64)
        self.entered += count

        def use(span: Span, hidden: torch.Tensor) -> None:
            if self.targets is not None:
                self.targets.read(self.decoder, span, hidden, self.budget.head)
            ends = self.ends[first : first + count]
            inside = np.flatnonzero((ends >= span.start) & (ends < span.stop))
            if len(inside):
                last = hidden[self.decoder.like.index(ends[inside] - span.start)]
                tokens[inside] = self.decoder.head(last).argmax(-1).cpu().numpy()

        begun = self.forward.place
        all_entered = self.entered == len(self.prompts)
        stop = len(self.prefixes.tokens) if all_entered else int(self.ends[self.entered - 1]) + 1
        self.forward.up_to(stop, use, Prefill)
        self.tally.tokens += self.forward.place - begun
        for sequence, token in zip(slot_of, tokens, strict=True):
            answer = _Answer(self.prompts[sequence])
            answer.tokens.append(int(token))
            self.slots.open(len(self.active), len(answer.prompt))
            self.active.append(answer)

    def _step(self) -> None:
        """One more token for every answer in progress."""
        last = np.array([answer.tokens[-1] for answer in self.active])
        lengths = np.array([len(a.prompt) + len(a.tokens) - 1 for a in self.active])
        self.slots.step(lengths)
        self.tally.steps += 1
        self.tally.generated += len(lengths)
        self.tally.seen += int(lengths.sum())
        hidden = self.decoder.body(last, lengths, self.slots)
        for answer, token in zip(
            self.active, self.decoder.head(hidden).argmax(-1).tolist(), strict=True
        ):
            answer.tokens.append(token)

    def _leave(self, slot: int) -> None:
        """The last answer takes the place of the one that leaves."""
        last = self.active.pop()
        if slot < len(self.active):
            self.slots.move(len(self.active), slot, len(last.prompt) + len(last.tokens))
            self.active[slot] = last
