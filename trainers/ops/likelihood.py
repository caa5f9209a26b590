"""Log-probabilities of texts under a model, in packed micro-batches and without a gradient."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from trainers.models import load
from trainers.ops import batching, memory, packed_attention
from trainers.ops.chunked_loss import Head
from trainers.ops.memory import SMALLEST_BUDGET, out_of_memory
from trainers.ops.packed_attention import Example, Rows
from trainers.ops.pairs import cut
from trainers.processes import attempt, replicas

PAIRS_AT_A_TIME = {"cpu": 256, "cuda": 4096}
"""Pairs whose tokens are in memory at once."""

Score = Callable[[Rows], torch.Tensor]
"""Of a micro-batch, (texts,), on the device."""

Scorer = Callable[[PreTrainedModel], Score]
"""Of a model; a function of a module, so that other processes can be told of it."""


def losses(loaded: load.Loaded, examples: list[Example], bfloat16: bool) -> torch.Tensor:
    """The sum over each example's tokens that count, (examples,), float32 on the CPU."""
    with _losses_of(loaded, bfloat16) as losses_of:
        return losses_of(examples)


Keep = Callable[[np.ndarray], None]
"""Told now and then of all values so far, so that another start can go on from them."""


def pair_log_probabilities(
    loaded: load.Loaded,
    pairs: Dataset,
    bfloat16: bool,
    known: np.ndarray | None = None,
    keep: Keep = lambda values: None,
) -> np.ndarray:
    """Sums over the tokens of each answer, float32, (pairs, 2): chosen and rejected. `known` are
    those of the first pairs, as an earlier start has kept them."""
    values = np.empty((0, 2), np.float32) if known is None else known
    columns = pairs.with_format("torch", columns=["input_ids", "labels", "second"])
    size = PAIRS_AT_A_TIME[loaded.model.device.type]
    with _losses_of(loaded, bfloat16) as losses_of:
        while len(values) < len(pairs):
            rows: Any = columns[len(values) : len(values) + size]
            by_row = zip(*rows.values(), strict=True)
            examples = [side for row in by_row for side in cut(dict(zip(rows, row, strict=True)))]
            lost = losses_of(examples, f"pair {len(values):,} of {len(pairs):,}")
            values = np.concatenate([values, -lost.reshape(-1, 2).numpy()])
            keep(values)
    return values


@contextmanager
def _losses_of(loaded: load.Loaded, bfloat16: bool) -> Iterator[Callable[..., torch.Tensor]]:
    """While open, the model has packed attention; proven once, for any number of calls."""
    with packed_attention.used(loaded.model, bfloat16) as packed:
        yield lambda examples, sign="log-probabilities": in_micro_batches(
            loaded, examples, summed_losses, packed, bfloat16, sign
        )


def summed_losses(model: PreTrainedModel) -> Score:
    """The sum over a text's tokens that count."""
    head = Head(model)

    def score(row: Rows) -> torch.Tensor:
        lost = head.negative_log_likelihoods(model, row)
        return torch.zeros(row.examples, device=lost.device).index_add(0, row.owners, lost)

    return score


def in_micro_batches(
    loaded: load.Loaded,
    examples: Sequence[Example],
    scorer: Scorer,
    packed: bool,
    bfloat16: bool,
    sign: str = "log-probabilities",
) -> torch.Tensor:
    """The scores of all examples, float32 on the CPU; `sign` is what signs of progress say.

    Where the model has replicas, each process takes its share of the same micro-batches.
    """
    budget = memory.tokens_per_forward(loaded.model)
    parts = batching.micro_batches([example.length for example in examples], budget, not packed)
    work = _Work(scorer, packed, bfloat16, budget, sign)
    others = replicas.of(loaded)
    ranks = 1 if others is None else min(others.ranks, len(parts))
    if others is None or ranks < 2:
        return _scored(loaded.model, examples, parts, work)
    values = torch.zeros(len(examples))
    shares = [parts[rank::ranks] for rank in range(ranks)]
    asked = [([_plain(examples, part) for part in share], work) for share in shares]
    for share, scores in zip(shares, others.run(_share, asked), strict=True):
        values[[place for part in share for place in part]] = torch.from_numpy(scores)
    return values


class _Work(NamedTuple):
    """What a process has to know beside the texts."""

    scorer: Scorer
    packed: bool
    bfloat16: bool
    budget: int
    sign: str


Plain = tuple[np.ndarray, np.ndarray]
"""Tokens and labels of a text: tensors would go from process to process by shared memory."""


def _plain(examples: Sequence[Example], part: Sequence[int]) -> list[Plain]:
    return [(examples[place].ids.numpy(), examples[place].labels.numpy()) for place in part]


def _share(loaded: load.Loaded, texts: list[list[Plain]], work: _Work) -> np.ndarray:
    """The scores of one process's micro-batches, in their order."""
    examples = [Example(*map(torch.from_numpy, text)) for part in texts for text in part]
    ends = np.cumsum([0, *map(len, texts)])
    parts = [list(range(*edges)) for edges in itertools.pairwise(ends)]
    if loaded.model.config._attn_implementation == packed_attention.ATTENTION:
        return _scored(loaded.model, examples, parts, work).numpy()
    with packed_attention.used(loaded.model, work.bfloat16) as packed:
        if packed != work.packed:
            raise RuntimeError("packed attention is right in one process and wrong in another")
        return _scored(loaded.model, examples, parts, work).numpy()


@torch.no_grad()
def _scored(
    model: PreTrainedModel, examples: Sequence[Example], parts: list[list[int]], work: _Work
) -> torch.Tensor:
    """The scores of the examples, read from the device once.

    Where memory runs out the rest goes on with half as many tokens at a time.
    """
    score, budget = work.scorer(model), work.budget
    order: list[int] = []
    scores: list[torch.Tensor] = []
    while parts:
        try:
            for part in parts:
                attempt.sign(work.sign)
                row = packed_attention.rows([examples[n] for n in part], work.packed, model.device)
                with torch.autocast(model.device.type, torch.bfloat16, enabled=work.bfloat16):
                    scores.append(score(row))
                order += part
            parts = []
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or budget // 2 < SMALLEST_BUDGET:
                raise
        if parts:
            budget //= 2
            memory.release()
            waiting = sorted(set(range(len(examples))) - set(order))
            lengths = [examples[place].length for place in waiting]
            smaller = batching.micro_batches(lengths, budget, not work.packed)
            parts = [[waiting[place] for place in part] for part in smaller]
    values = torch.zeros(len(examples))
    if order:
        values[order] = torch.cat(scores).float().cpu()
    return values
