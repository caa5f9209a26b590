"""What this project takes from lm-eval beyond its public interface, as of lm-eval 0.4.13.

tests/trainers/tasks/test_compat_lm_eval.py fails where another version differs.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

LOWER_IS_BETTER = frozenset(
    {"bits_per_byte", "brier_score", "byte_perplexity", "perplexity", "ter", "word_perplexity"}
)
"""Registered metrics of which less is better (lm_eval/api/metrics.py) ..."""

HIGHER_IS_BETTER = frozenset(
    {
        "acc", "acc_all", "acc_bytes", "acc_mutual_info", "acc_norm", "bleu", "bypass", "chrf",
        "chrf++", "exact_match", "f1", "likelihood", "mcc",
    }
)  # fmt: skip
"""... and more is. Written down, since to ask the registry takes a second of imports."""

DEFAULT_METRICS = {
    "loglikelihood": "perplexity",
    "loglikelihood_rolling": "word_perplexity",
    "multiple_choice": "acc",
    "generate_until": "exact_match",
}
"""Output type -> first metric of a task that lists none (lm_eval/api/registry.py)."""


def tasks_folder() -> Path:
    """Where lm-eval keeps its tasks; found without importing it."""
    package = importlib.util.find_spec("lm_eval")
    assert package is not None and package.submodule_search_locations, "a dependency"
    return Path(package.submodule_search_locations[0]) / "tasks"


def load_yaml(path: Path, *, includes: bool = True) -> dict[str, Any]:
    """A task file as lm-eval reads it, merged with what it includes; functions are texts
    `FOLDER/module.function`. Imports neither lm-eval nor torch.

    Raises:
        OSError, ValueError, yaml.YAMLError: it cannot be read.
    """
    return _loader().load_yaml(path, resolve_func=False, recursive=includes)


@cache
def _loader() -> Any:
    """lm-eval's own reader, which needs nothing else of the package."""
    path = tasks_folder() / "_yaml_loader.py"
    spec = importlib.util.spec_from_file_location("lm_eval_yaml_loader", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
