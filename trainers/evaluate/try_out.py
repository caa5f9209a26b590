"""Score one item of each benchmark that is not built in, before anything is trained.

A typo in a task file, a function that is not there or raises, and items that do not fit show here
and not after hours of training. It runs in a process of its own (`python -m
trainers.evaluate.try_out`, a request on stdin), whose lm-eval leaves with it, on a model that
answers nonsense at once. What passed is remembered in the node-local cache by its fingerprint.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from trainers import files
from trainers.processes import process
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks import benchmarks
from trainers.tasks.registry import BENCHMARKS, Benchmark
from trainers.tasks.task_files import EvaluationUnavailable


def problems(evaluate: EvaluateSpec) -> list[str]:
    """What is wrong with the benchmarks of a grid, a line each. The hub is not asked."""
    untried = [name for name in evaluate.benchmarks if _is_untried(name, evaluate)]
    if not untried:
        return []
    request = evaluate.model_copy(update={"benchmarks": untried, "limit": 1})
    run = subprocess.run(
        [sys.executable, "-m", "trainers.evaluate.try_out"],
        input=request.model_dump_json(),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or ["it left no message"]
        return [f"trying {', '.join(untried)} on one item each: {last[0]}"]
    failures: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    for name in untried:
        if name not in failures:
            _mark(name, evaluate).touch()
    return list(failures.values())


def _is_untried(name: str, evaluate: EvaluateSpec) -> bool:
    if name in benchmarks.OF_STAGES:
        return False
    benchmark = benchmarks.find(name)
    local = evaluate.data_dir is not None and bool(benchmark.local_files)
    own = name not in BENCHMARKS and benchmark.pairs is None
    return (own or local) and not _mark(name, evaluate).exists()


def _mark(name: str, evaluate: EvaluateSpec) -> Path:
    mark = benchmarks.fingerprint(benchmarks.find(name), evaluate)
    return files.cache_folder("tried_benchmarks") / mark


def main() -> int:
    process.go_offline()
    evaluate = EvaluateSpec.model_validate_json(sys.stdin.read())
    failures = {}
    for name in evaluate.benchmarks:
        benchmark = benchmarks.find(name)
        if (problem := _tried(benchmark, evaluate)) is not None:
            failures[name] = problem
    print(json.dumps(failures))
    return 0


def _tried(benchmark: Benchmark, evaluate: EvaluateSpec) -> str | None:
    from trainers.evaluate import harness

    try:
        harness.score(_model(), benchmark, evaluate)
    except EvaluationUnavailable as error:
        return str(error)
    except Exception as error:  # a user's task file and functions can raise anything
        kind = type(error).__name__
        line = next(iter(str(error).strip().splitlines()), "") or "no message"
        return f"benchmark {benchmark.name!r}, tried on one item: {line} ({kind}{_place(error)})"
    return None


def _place(error: Exception) -> str:
    """Of the last call that is the user's own."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = (str(Path(sys.prefix)), str(Path(__file__).parents[2]))
    own = [frame for frame in frames if not frame.filename.startswith((*libraries, "<"))]
    return f"; {own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}" if own else ""


def _model() -> Any:
    """A model of lm-eval that answers at once, and nothing that means anything."""
    from lm_eval.api.model import LM

    class Nonsense(LM):
        tokenizer_name: Any = ""  # pyright: ignore

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return [(-1.0 - len(request.args[1]), False) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return [-1.0 - len(request.args[0]) for request in requests]

        def generate_until(self, requests: list[Any]) -> list[str]:
            return ["0" for _ in requests]

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return "\n".join(turn["content"] for turn in chat_history)

    return Nonsense()


if __name__ == "__main__":
    sys.exit(main())
