"""Greedy answers with continuous batching: one that is finished leaves, the next enters.

Each answer in progress has a slot in one buffer of keys and values per layer, allocated once. The
prompts are computed packed, each distinct prefix once, straight into the slots; after that every
step adds one token to all of them. transformers has continuous batching too (`generate_batch`). It
knows no stop strings, and on a CPU every step attends from all answers to the keys of all, gathered
anew and masked: `tests/bench/bench_eval.py --paged` sets it beside this one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from trainers.inference.decoder import Decoder
from trainers.inference.logprobs import Targets
from trainers.inference.prefix_attention import Span
from trainers.inference.prefix_tree import find
from trainers.inference.slots import Prompts, Slots
from trainers.inference.token_budget import Budget, Forward
from trainers.ops.memory import out_of_memory

MOST_SLOTS = 256
BUSY_SLOTS = 32
"""So many answers have the cores of a CPU busy at each step."""
READ_TOKENS = 16_384
"""A step reads all slots; on a CPU more of them pay only while they are this short together."""
STEPS_AT_A_TIME = {"cpu": 1, "cuda": 8}
"""Steps from one look at the tokens to the next. A GPU would wait for each look; an answer that has
ended meanwhile takes part in the steps that are left, and what they add to it is dropped."""


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
    cut: int = 0
    """Answers that `SharedPrefixLM.most_new_tokens` has cut off."""


def steps_at_a_time(device: str) -> int:
    return STEPS_AT_A_TIME[device]


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


class _Answer:
    def __init__(self, prompt: tuple[int, ...]):
        self.prompt = prompt
        self.tokens: list[int] = []
        self.made: list[int] = []
        """Tokens that nobody has looked at yet."""

    def ends(self, most: int, finished: Finished) -> bool:
        """Take the new tokens up to the one with which the answer ends; whether there is one."""
        made, self.made = self.made, []
        for token in made:
            self.tokens.append(token)
            if len(self.tokens) == most or finished(self.tokens):
                return True
        return False


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
                self._steps()
            for slot in reversed(range(len(self.active))):
                answer = self.active[slot]
                if answer.ends(self.max_new_tokens, finished):
                    answers[answer.prompt] = answer.tokens
                    self._leave(slot)
        del self.slots  # the classes of `_enter` hold this batch until the collector looks

    def _enter(self, count: int) -> None:
        """Compute the next prompts, in the order of the distinct prefixes: a first token each."""
        first = self.entered
        slot_of = {
            int(self.order[first + number]): len(self.active) + number for number in range(count)
        }
        batch = self

        class Prefill(Span):
            """Also copies each prompt that ends in the span to its slot."""

            @cached_property
            def prompts(self) -> Prompts | None:
                """The same in every layer, and so made once."""
                paths = {slot: batch.prefixes.paths[number] for number, slot in slot_of.items()}
                ending = {
                    s: path for s, path in paths.items() if self.start <= path[-1] < self.stop
                }
                if not ending:
                    return None
                lengths = [len(path) for path in ending.values()]
                parts = (
                    np.concatenate([self.where(path) for path in ending.values()]),
                    np.repeat(list(ending), lengths),
                    np.concatenate([np.arange(length) for length in lengths]),
                )
                return Prompts(*map(self.like.index, parts))

            def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
                super().store(layer, key, value)
                if self.prompts is not None:
                    batch.slots.fill(layer, self.prompts, key[0], value[0])

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
            answer.made = [int(token)]
            self.slots.open(len(self.active), len(answer.prompt))
            self.active.append(answer)

    def _steps(self) -> None:
        """A few more tokens for every answer in progress, which stay on the device meanwhile."""
        like = self.decoder.like
        room = self.max_new_tokens - max(len(answer.tokens) for answer in self.active)
        count = min(steps_at_a_time(like.device.type), room)
        lengths = np.array([len(a.prompt) + len(a.tokens) - 1 for a in self.active])
        last = like.index(np.array([answer.tokens[-1] for answer in self.active]))
        ends, longest = like.index(lengths), int(lengths.max())
        made = []
        for number in range(count):
            self.slots.step(ends, longest + number)
            last = self.decoder.head(self.decoder.body(last, ends, self.slots)).argmax(-1)
            made.append(last)
            ends = ends + 1
        self.tally.steps += count
        self.tally.generated += count * len(lengths)
        self.tally.seen += int(count * lengths.sum()) + len(lengths) * count * (count - 1) // 2
        for answer, tokens in zip(self.active, torch.stack(made, dim=1).tolist(), strict=True):
            answer.made = tokens

    def _leave(self, slot: int) -> None:
        """The last answer takes the place of the one that leaves."""
        last = self.active.pop()
        if slot < len(self.active):
            self.slots.move(len(self.active), slot, len(last.prompt) + len(last.tokens))
            self.active[slot] = last
