"""What a file says that a tool left in the folder of a run: scores, or settings.

Read are the results of lm-eval, the HF Trainer (and what is built on it), Ray Tune, W&B and own
scripts, and settings as JSON or YAML. A pickle (training_args.bin) runs code when it is read, so it
is not.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from analysis.tables.errors import ResultsError

SETTINGS = re.compile(
    r"(params|args|training_args|train_args|hparams|config|train_config)\.(json|ya?ml)"
)

HARNESSES = {"config_general": "LightEval", "configs": "lm-eval", "versions": "lm-eval"}
"""What stands beside the results -> who wrote them."""

HISTORY = "trainer_state.json"


class Said(NamedTuple):
    """`tool` wrote it, or "" for settings."""

    tool: str
    cells: dict[str, Any]
    directions: Mapping[str, str] = MappingProxyType({})
    """Score -> "max" or "min", where the file says so."""


class ToolFile(NamedTuple):
    """A file of scores that a tool leaves in the folder of a run."""

    tool: str
    """"" for scripts of one's own."""
    name: re.Pattern[str]
    said: Callable[[dict[str, Any], str, str], Said | None]
    """What its content says, of `tool`, in a file of this name."""
    in_lines: bool = False
    """Whether it has a line of JSON for each report, of which the last counts."""


def read(path: Path) -> Said | None:
    """None for a file that is none of a tool's.

    Raises:
        ResultsError: the file is damaged.
    """
    name = path.name
    if SETTINGS.fullmatch(name):
        return _settings(_content(path))
    file = next((file for file in TOOL_FILES if file.name.fullmatch(name)), None)
    if file is None:
        return None
    content = _last_line(path) if file.in_lines else _content(path)
    return file.said(content, file.tool, name) if isinstance(content, dict) else None


def _settings(content: Any) -> Said | None:
    if not isinstance(content, dict) or "model_type" in content:  # a model's architecture
        return None
    values = {
        key: value["value"] if isinstance(value, dict) and "value" in value else value
        for key, value in content.items()  # W&B's {"lr": {"value": 1e-5}}
    }
    return Said("", {f"config/{key}": value for key, value in _flat(values).items()})


def _scores(content: dict[str, Any], tool: str, file: str) -> Said:
    """Those by task, or every number of the file."""
    if isinstance(content.get("results"), dict):
        return _harness(content, file)
    return Said(tool or file, _flat(content))


def _results(content: dict[str, Any], _tool: str, file: str) -> Said:
    """lm-eval's by the keys beside them; without these a script's own."""
    return _scores(content, "", file)


def _report(content: dict[str, Any], tool: str, file: str) -> Said:
    """Ray Tune's where it counts iterations, else a script's own."""
    return _scores(content, tool if "training_iteration" in content else "", file)


def _history(content: dict[str, Any], tool: str, _file: str) -> Said | None:
    """The last evaluation of a training, which has an entry for each of its sets, or its mean loss
    where it had none."""
    entries = [_object(entry) for entry in _listed(content.get("log_history"))]
    for kind in ("eval_", "train_loss"):
        step, cells = None, {}
        for entry in reversed(entries):
            here = {key: value for key, value in entry.items() if key.startswith(kind)}
            if here and cells and (step is None or entry.get("step") != step):
                break
            if here:
                step, cells = entry.get("step"), here | cells
        if cells:
            return Said(tool, _flat(cells))
    return None


def _harness(content: dict[str, Any], file: str) -> Said:
    """Scores by task as lm-eval, LightEval and own scripts write them, with errors and items; of a
    group with scores of its own the whole alone."""
    tool = next((tool for mark, tool in HARNESSES.items() if mark in content), file)
    results = {str(task): _of_task(value) for task, value in content["results"].items()}
    groups = _object(content.get("group_subtasks"))
    items, better = (_object(content.get(name)) for name in ("n-samples", "higher_is_better"))
    parts = {str(part) for group in groups if results.get(group) for part in _listed(groups[group])}
    if tool == "LightEval":
        parts |= _parts_of_averages(results)
    cells: dict[str, Any] = {}
    directions: dict[str, str] = {}
    for task in (name for name in results if name not in parts):
        for metric, value in results[task].items():
            column, name = f"{task}/{metric}".removesuffix("/"), metric.partition(",")[0]
            cells[column] = value
            if name.endswith("_stderr"):
                continue
            if isinstance(count := _object(items.get(task)).get("effective"), int):
                cells[f"{column}_n"] = count
            if isinstance(best := _object(better.get(task)).get(name), bool):
                directions[column] = "max" if best else "min"
    return Said(tool, cells, directions)


def _of_task(of_task: Any) -> dict[str, Any]:
    """The numbers of a task, where lm-eval names a filter (acc,none) those alone; a single number
    has no name."""
    values = of_task if isinstance(of_task, dict) else {"": of_task}
    numbers = {
        str(metric): value
        for metric, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return {metric: value for metric, value in numbers.items() if "," in metric} or numbers


def _parts_of_averages(tasks: Iterable[str]) -> set[str]:
    """LightEval averages over the subsets of a task, and in "all" over everything."""
    averages = [task.partition("_average")[0] for task in tasks if "_average" in task]
    return {"all"} | {
        task
        for task in tasks
        if "_average" not in task and any(task.startswith(average) for average in averages)
    }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _last_line(path: Path) -> Any:
    lines = _text(path).split("\n")
    return _parsed(next((line for line in reversed(lines) if line.strip()), "{}"), path)


def _content(path: Path) -> Any:
    text = _text(path)
    if path.suffix == ".json":
        return _parsed(text, path)
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        raise ResultsError(f"{path}: not YAML; correct it, or move it away") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ResultsError(
            f"{path}: not readable as text; write it again, or move it away"
        ) from error


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ResultsError(f"{path}: damaged, not JSON; write it again, or move it away") from error


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Numbers and words by their path, a/b; lists are left out."""
    if not content:
        return {}
    (row,) = pd.json_normalize(content, sep="/").to_dict("records")
    return {
        str(key): value
        for key, value in row.items()
        if isinstance(value, str | int | float) and value == value
    }


TOOL_FILES = (
    ToolFile("lm-eval", re.compile(r"results.*\.json"), _results),
    ToolFile("the HF Trainer", re.compile(r"(all|eval|test)_results\.json"), _scores),
    ToolFile("the HF Trainer", re.compile(re.escape(HISTORY)), _history),
    ToolFile("Ray Tune", re.compile(r"result\.json"), _report, in_lines=True),
    ToolFile("W&B", re.compile(r"wandb-summary\.json"), _scores),
    ToolFile("", re.compile(r"(metrics|scores|summary|eval|evaluation)\.json"), _scores),
)
TOOLS = tuple(dict.fromkeys(file.tool for file in TOOL_FILES if file.tool))
