"""lm-eval's requests, divided over the processes that hold the model.

lm-eval itself, its prompts and its metrics run in one process; the model's answers come from all
(`trainers/processes/replicas.py`).
Log-likelihoods are computed in the same units of requests whatever the number of processes, so that
they are the same to the bit; an answer that is written depends on those beside it by no more than
rounding.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from trainers.models import load
from trainers.processes import replicas

UNITS = 8
"""Of the log-likelihoods of one call: as many processes as a node has GPUs have one each."""

UNIT_REQUESTS = 512
"""In a unit at least: what requests have in common is computed once in each unit."""

ANSWERS = "generate_until"
METHODS = ("loglikelihood", "loglikelihood_rolling", ANSWERS)

OpenModel = Callable[[load.Loaded], Any]
"""Opens the model of a process as lm-eval wants it; pickled for the others."""

Known = dict[Any, tuple[float, bool]]
"""Log-likelihoods by (context, continuation), computed along with answers."""


class Sent(NamedTuple):
    """What another process gets of a request."""

    args: tuple[Any, ...]
    expected: list[tuple[str, str]]


def divide(lm: Any, loaded: load.Loaded, open_there: OpenModel) -> Any:
    """Have `lm`, which computes with `loaded`, answer in units, and its replicas their share, each
    with what `open_there` makes of its own copy of the model."""
    for method in METHODS:
        setattr(lm, method, partial(_answers, lm, getattr(lm, method), method, loaded, open_there))
    return lm


def _answers(
    lm: Any,
    here: Callable[..., list[Any]],
    method: str,
    loaded: load.Loaded,
    open_there: OpenModel,
    requests: Sequence[Any],
    **options: Any,
) -> list[Any]:
    """What `here`, the method of `lm`, returns."""
    others = replicas.of(loaded)
    known = _known(lm)
    here_already = known if method == "loglikelihood" else {}
    asked = [n for n, one in enumerate(requests) if not here_already or one.args not in known]
    ranks = 1 if others is None else others.ranks
    units = _cut(asked, ranks if method == ANSWERS else UNITS, method)
    answers: dict[int, Any] = {}
    if others is None or len(units) < 2:
        for unit in units:
            answers |= zip(unit, here([requests[n] for n in unit], **options), strict=True)
    else:
        shares = [units[rank::ranks] for rank in range(min(ranks, len(units)))]
        sent = [[[_sent(lm, requests[n]) for n in unit] for unit in share] for share in shares]
        first = partial(_own, here, [[requests[n] for n in unit] for unit in shares[0]], options)
        work = partial(_elsewhere, method, open_there)
        own, *rest = others.run(work, [(part,) for part in sent], first)
        answers |= zip(itertools.chain(*shares[0]), own, strict=True)
        for share, (values, ahead, cut) in zip(shares[1:], rest, strict=True):
            answers |= zip(itertools.chain(*share), values, strict=True)
            known |= ahead
            _cut_prompts(lm).update(cut)
    if left := [n for n in range(len(requests)) if n not in answers]:
        answers |= zip(left, here([requests[n] for n in left], **options), strict=True)
    return [answers[n] for n in range(len(requests))]


def _cut(places: list[int], parts: int, method: str) -> list[list[int]]:
    """Places in order, in about equal parts; fewer parts where they would be too small."""
    if method == "loglikelihood":
        parts = min(parts, len(places) // UNIT_REQUESTS)
    parts = max(min(parts, len(places)), 1)
    edges = [len(places) * part // parts for part in range(parts + 1)]
    return [places[a:b] for a, b in itertools.pairwise(edges) if b > a]


def _known(lm: Any) -> Known:
    """None of lm-eval's own class, which computes nothing ahead."""
    return getattr(lm, "known", {})


def _cut_prompts(lm: Any) -> set[str]:
    """None of lm-eval's own class, which does not say."""
    return getattr(lm, "cut", set())


def _sent(lm: Any, request: Any) -> Sent:
    ahead = getattr(lm, "expected", None)
    return Sent(request.args, [] if ahead is None else list(ahead(request)))


def _own(
    here: Callable[..., list[Any]], units: list[list[Any]], options: dict[str, Any]
) -> list[Any]:
    return [answer for unit in units for answer in here(unit, **options)]


_opened: list[Any] = []
"""lm-eval's view of the model, in the process of a replica."""


def _elsewhere(
    method: str, open_there: OpenModel, loaded: load.Loaded, units: list[list[Sent]]
) -> tuple[list[Any], Known, set[str]]:
    """The answers to requests, log-likelihoods of the continuations expected after them, and the
    prompts that were cut."""
    from trainers.inference import harness_model

    if not _opened:
        _opened.append(open_there(loaded))
    lm = _opened[0]
    harness_model.begin(lm)
    answers: list[Any] = []
    ahead: Known = {}
    for unit in units:
        if not any(sent.expected for sent in unit):
            answers += getattr(lm, method)(unit)
            continue
        with lm.expecting(lambda sent: sent.expected):
            answers += getattr(lm, method)(unit)
            ahead |= _known(lm)
    return answers, ahead, _cut_prompts(lm)
