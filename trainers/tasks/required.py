"""An evaluation that a model is to have, as manifest.json of a run folder names it: of a trial of a
sweep, and of a model that `python -m trainers.evaluate` scores."""

from typing import Any

from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.fields import Strict
from trainers.tasks import benchmarks, metrics
from trainers.tasks.registry import Benchmark


class Required(Strict):
    benchmark: str
    """Its name in tables and records."""
    fingerprint: str
    """Hash of all that decides the score; the name of its record."""
    metric: str
    """The primary one."""
    higher_is_better: bool

    @property
    def record(self) -> dict[str, Any]:
        """As the manifest has it."""
        return self.model_dump(include=set(Required.model_fields))


def required(benchmark: Benchmark, label: str, spec: EvaluateSpec) -> Required:
    """The evaluation on a benchmark that goes by the name `label` in the run."""
    metric = metrics.primary(benchmark)
    return Required(
        benchmark=label,
        fingerprint=benchmarks.fingerprint(benchmark, spec),
        metric=metric.name,
        higher_is_better=metric.higher_is_better is not False,
    )
