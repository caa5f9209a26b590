"""The stages of a grid file, each with its cells."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from sweep.gridfile import checks
from sweep.gridfile.arms import cells, given_in, read_arms, read_axes
from sweep.gridfile.errors import Problems
from sweep.gridfile.keys.axes import NESTED
from sweep.gridfile.keys.schema import (
    BASE,
    EACH,
    NAME,
    REFERENCE,
    STAGE_KEYS,
    Best,
    Keep,
    Stage,
    TrialResources,
)
from sweep.gridfile.yaml import KeyPath
from trainers.specs import file_names
from trainers.specs.kinds import KINDS
from trainers.specs.training import TrainingSpec

KEY = r"[0-9a-f]{4,12}"
"""The beginning of a trial's key."""


def read(data: dict[str, Any], problems: Problems) -> dict[str, Stage]:
    """The stages of a file's `data` that are right; what is wrong with the others is added to
    `problems`."""
    stages = data.get("stages")
    if stages is None:
        return {}
    if not isinstance(stages, dict) or not stages:
        problems.add(("stages",), "is not a mapping from a stage's name to its settings")
        return {}
    reader = _Reader(data, problems)
    built = {name: reader.stage(name, settings) for name, settings in stages.items()}
    for path, message in checks.starts(stages):
        problems.add(path, message)
    return {name: stage for name, stage in built.items() if stage is not None}


class _Reader:
    def __init__(self, data: dict[str, Any], problems: Problems):
        self.data = data
        self.problems = problems

    def parent(self, value: Any, path: KeyPath) -> Best | str | None:
        """`each`, `best`, {best: a benchmark}, or the beginning of a key."""
        if value == "best":
            return Best()
        if isinstance(value, dict):
            return self.problems.validated(Best, value, path)
        if value == EACH or (isinstance(value, str) and re.fullmatch(KEY, value)):
            return value
        self.problems.add(
            path, f"{value!r}: use each, best, {{best: a benchmark}}, or a model's key in quotes"
        )
        return None

    def stage(self, name: str, settings: Any) -> Stage | None:
        path = ("stages", name)
        if not isinstance(settings, dict):
            self.problems.add(path, "is not a mapping of settings")
            return None
        if name in (BASE, REFERENCE):
            self.problems.add(
                path, f"`{name}` means models that are not trained; give the stage another name"
            )
        if not re.fullmatch(NAME, name):
            self.problems.add(
                path, "a stage's name has letters, digits and . _ - alone, at most 64"
            )
        kind = settings.get("kind")
        if kind is None and settings.keys() <= set(STAGE_KEYS):
            self.absent(name, settings)
            return None
        if not isinstance(kind, str) or kind not in KINDS:
            what = "is missing" if kind is None else f"{kind!r} is not a stage"
            self.problems.add((*path, "kind"), f"{what}; use one of {', '.join(KINDS)}")
            return None
        spec = KINDS[kind]
        axes = read_axes(settings.get("grid", {}), (*path, "grid"), spec, self.problems)
        arms = read_arms(settings.get("arms", []), (*path, "arms"), spec, axes, self.problems)
        plain = {
            key: value
            for key, value in settings.items()
            if key not in STAGE_KEYS and not key.startswith("x-")
        }
        for key in axes:
            outer, _, inner = key.partition(NESTED)
            if given_in(key, plain):
                at = (*path, outer, inner) if inner else (*path, key)
                self.problems.add(at, "is an axis of `grid` too; give it in one place")
        keep = settings.get("keep", "all")
        if keep not in get_args(Keep):
            self.problems.add((*path, "keep"), f"{keep!r}: use one of {', '.join(get_args(Keep))}")
        resources = self.trial_resources(settings.get("resources", {}), (*path, "resources"))
        parent = self.parent(settings.get("parent", EACH), (*path, "parent"))
        built = cells(name, spec, plain, arms, self.problems)
        self.judges(path, built or [])
        if parent is None or built is None or resources is None or keep not in get_args(Keep):
            return None
        return Stage(
            name=name,
            start_from=str(settings.get("start_from", BASE)),
            parent=parent,
            keep=keep,
            resources=resources,
            arms=tuple(arm.described() for arm in arms),
            cells=tuple(built),
        )

    def trial_resources(self, own: Any, path: KeyPath) -> TrialResources | None:
        """The grid's, with what the stage says in their place."""
        if not isinstance(own, dict):
            self.problems.add(path, f"{own!r} is not a mapping")
            return None
        grids = self.data.get("resources")
        shared = {
            key: value
            for key, value in (grids if isinstance(grids, dict) else {}).items()
            if key in TrialResources.model_fields
        }
        return self.problems.validated(TrialResources, shared | own, path)

    def absent(self, name: str, settings: dict[str, Any]) -> None:
        """Axes and the like for a stage that is not there."""
        others = [other for other in self.data["stages"] if other != name]
        near = difflib.get_close_matches(name, others, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"the stages are {', '.join(others)}"
        what = ", ".join(settings) or "nothing"
        self.problems.add(("stages", name), f"has {what} but no `kind`, so it is no stage; {hint}")

    def judges(self, path: KeyPath, cells: Sequence[tuple[str, TrainingSpec]]) -> None:
        """Reward models that stages are to be rewarded by have to be there."""
        for key, name in file_names.given((spec for _, spec in cells), "model"):
            if not (Path(name) / "config.json").is_file():
                self.problems.add(
                    (*path, key),
                    f"no model in the folder {name!r} (from {Path.cwd()}); give the `model` folder "
                    "of a trial of a reward stage",
                )
