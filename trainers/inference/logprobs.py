"""The log-probabilities that requests ask for, read off a forward over distinct prefixes."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from trainers.inference.decoder import Decoder
from trainers.inference.prefix_attention import Span

Encoded = tuple[tuple[str, str] | None, list[int], list[int]]
"""lm-eval's form of a request: its texts, the context's tokens and the continuation's."""


class Targets:
    """Of some requests; `sequences` are the tokens that have to be forwarded for them.

    Cut from the left where context and continuation are longer than the model's length, as lm-eval
    does.
    """

    def __init__(self, requests: Sequence[Encoded], max_length: int):
        """
        Raises:
            ValueError: a request is empty, or its continuation longer than the model's length.
        """
        self.sequences: list[list[int]] = []
        for _, context, continuation in requests:
            if not context or not 0 < len(continuation) <= max_length:
                raise ValueError(
                    f"a request of {len(context)} + {len(continuation)} tokens; context and "
                    f"continuation need one at least, and the continuation at most {max_length}"
                )
            self.sequences.append((context + continuation)[-(max_length + 1) : -1])
        self._sizes = [len(continuation) for *_, continuation in requests]
        self._tokens = np.array([token for *_, continuation in requests for token in continuation])
        self._values = np.empty(len(self._tokens))
        self._greedy = np.empty(len(self._tokens), dtype=bool)

    def lie(self, paths: Sequence[np.ndarray]) -> None:
        """Where the tokens of each sequence lie among the distinct prefixes."""
        ends = [path[-size:] for path, size in zip(paths, self._sizes, strict=True)]
        places = np.concatenate(ends)
        self._order = np.argsort(places, kind="stable")
        self._places = places[self._order]

    def read(self, decoder: Decoder, span: Span, hidden: torch.Tensor, at_once: int) -> None:
        """Take those of one span, with the logits of `at_once` places in memory at a time."""
        first, last = np.searchsorted(self._places, [span.start, span.stop])
        places, which = np.unique(self._places[first:last] - span.start, return_inverse=True)
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            inside = np.flatnonzero((which >= start) & (which < start + len(some)))
            asked = self._order[first + inside]
            logits = decoder.head(hidden[decoder.like.index(some)]).float()
            # torch's log_softmax on a CPU is 1e-5 off; like lm-eval's numbers, so are these
            logs = F.log_softmax(logits, dim=-1)
            rows = decoder.like.index(which[inside] - start)
            best = logs.argmax(-1).cpu().numpy()
            tokens = self._tokens[asked]
            self._values[asked] = logs[rows, decoder.like.index(tokens)].cpu().numpy()
            self._greedy[asked] = best[which[inside] - start] == tokens

    def answers(self) -> list[tuple[float, bool]]:
        """Of each request: its log-likelihood, and whether it is what greedy decoding says."""
        ends = np.cumsum([0, *self._sizes])
        parts = [slice(start, stop) for start, stop in itertools.pairwise(ends)]
        return [(float(self._values[part].sum()), bool(self._greedy[part].all())) for part in parts]
