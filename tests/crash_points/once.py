"""What computes and writes no file of a run, computed once for all runs: they are forked from a
process that has it. The same arguments give the same result, and other weights other scores.
"""

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers import files

TIMES = ["train_seconds", "eval_seconds"]


def compute_once() -> None:
    """In this process and those that are forked from it. Figures are left out."""
    from analysis.figures import style
    from analysis.posterior import condition
    from analysis.report import build, section
    from sweep.execution.worker import scoring
    from sweep.storage import manifest

    style.save = _no_figure
    section.draw = section.draw_multiples = lambda chart: None
    condition.posterior = _kept(condition.posterior, lambda *arguments: pickle.dumps(arguments))
    build.advise = _kept(build.advise, _advised)
    scoring._Scorer.__call__ = _kept(scoring._Scorer.__call__, _scored)
    for name in ("code", "packages", "_git_commit"):
        setattr(manifest, name, functools.cache(getattr(manifest, name)))


def _kept(function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
    results: dict[Any, Any] = {}

    @functools.wraps(function)
    def known(*arguments: Any) -> Any:
        asked = key(*arguments)
        if asked not in results:
            results[asked] = function(*arguments)
        return results[asked]

    return known


def _advised(_: Any, weights: Any, frame: Any) -> tuple[Any, ...]:
    return weights, frame.drop(columns=TIMES).to_csv()


def _scored(scorer: Any, want: Any) -> tuple[str, ...]:
    job = scorer._job
    weights = sorted(path for path in Path(job.folder, "model").glob("*") if path.is_file())
    return want.fingerprint, job.trial.key, files.content_hash(*weights)


def _no_figure(figure: Any, path: Path) -> str:
    for end in ("png", "pdf", "svg"):
        path.with_name(f"{path.name}.{end}").write_text("<svg/>", encoding="utf-8")
    return "<svg/>"
