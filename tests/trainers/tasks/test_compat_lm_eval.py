"""What is taken from lm-eval's inside is still there, and as it was."""

from pathlib import Path

import pytest
from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY, higher_is_better_registry, metric_registry
from lm_eval.tasks import _yaml_loader

from trainers.tasks import compat_lm_eval


@pytest.mark.parametrize(
    "name", ["gsm8k/gsm8k.yaml", "mmlu/default/mmlu_anatomy.yaml", "ifeval/ifeval.yaml"]
)
def test_task_files_are_read_as_lm_eval_reads_them(name):
    path = compat_lm_eval.tasks_folder() / name
    assert compat_lm_eval.load_yaml(path) == _yaml_loader.load_yaml(path, resolve_func=False)


def test_directions_are_those_of_the_registry():
    import lm_eval.api.metrics  # noqa: F401  (fills the registry)

    directions = {name: higher_is_better_registry.get(name) for name in metric_registry}
    assert {name for name, higher in directions.items() if not higher} == (
        compat_lm_eval.LOWER_IS_BETTER
    )
    assert {name for name, higher in directions.items() if higher} == (
        compat_lm_eval.HIGHER_IS_BETTER
    )


def test_default_metrics_are_those_of_the_registry():
    first = {kind: metrics[0] for kind, metrics in DEFAULT_METRIC_REGISTRY.items()}
    assert first == compat_lm_eval.DEFAULT_METRICS


def test_folder_of_the_tasks_is_there():
    assert (compat_lm_eval.tasks_folder() / "arc" / "arc_easy.yaml").is_file()
    assert compat_lm_eval.tasks_folder() == Path(_yaml_loader.__file__).parent
