"""The grid file of a next step: the run's own with longer axes, or the part that holds them."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from analysis.tables.errors import ResultsError

GROUP_SIZE = 8
"""Completions of a prompt where a stage of the kind rlvr does not say (trainers/specs/rlvr.py)."""

TRIALS = 45
"""Of a `decide` that does not say (sweep/gridfile/keys/schema.py)."""


class GridFile(NamedTuple):
    """Where the axes of one grid stand: `whole` is the file, `place` a `grid` of it, and `beside`
    the settings that stand beside it. `arm` is the one whose own axes they are, "" where all arms
    of the stage go over them. Batch sizes are multiples of `group`."""

    whole: Any
    place: Any
    beside: tuple[Any, ...]
    arm: str
    group: int = 1

    def shared_by(self, labels: Sequence[str]) -> list[str]:
        """Of the names of a stage's grids, those of the grids that get what is added."""
        return [label for label in labels if not self.arm or _is_of(self.arm, label)]

    @property
    def chooser(self) -> str:
        """The key under which the run chooses its cells; "" where all run."""
        return next((name for name in ("decide", "search") if self.whole.get(name) is not None), "")

    @property
    def trials(self) -> int:
        """That the run chooses at most: cells of `search`, which has each with all its seeds."""
        return self.whole[self.chooser].get("trials", TRIALS)

    def values(self, name: str) -> list[float]:
        """Those that an axis has."""
        return _numbers(self.place.get(name))

    def joined(self, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """These axes with the values that the file has already."""
        return {name: sorted({*values, *self.values(name)}) for name, values in axes.items()}

    def text(self, axes: dict[str, list[Any]], trials: int | None = None) -> str:
        """The file with these axes, beside the values that they have already; one of a single value
        stays where it is given. `trials` is how many are chosen at most."""
        if trials is not None:
            self.whole[self.chooser]["trials"] = trials
        if "ratio" not in axes and axes.keys() & {"learning_rate", "batch_size"}:
            self.place.pop("ratio", None)
        for name, values in self.joined(axes).items():
            given = name == "seed" or any(name in settings for settings in self.beside)
            if len(values) == 1 and name not in self.place and given:
                continue
            for settings in self.beside[-1:]:
                settings.pop(name, None)
            self.place[name] = CommentedSeq(values)
            self.place[name].fa.set_flow_style()
        with io.StringIO() as stream:
            _yaml().dump(self.whole, stream)
            return stream.getvalue()


def read(stage: str, label: str, file: Path | None) -> GridFile:
    """That of a stage, or of its arm in a table, `label`; the bare part without the run's `file`.

    Raises:
        ResultsError: the file is not a grid.
    """
    if file is not None and file.exists():
        try:
            whole = _yaml().load(file)
            settings = whole.get("stages", {}).get(stage, {})
            arms = settings.get("arms", [])
            own = any("grid" in arm for arm in arms) and "ratio" not in settings.get("grid", {})
            for arm in arms if own else ():
                if _is_of(arm["name"], label):
                    place = arm.setdefault("grid", {})
                    beside = (settings, arm.setdefault("set", {}))
                    return GridFile(whole, place, beside, arm["name"], _group(settings))
            if "grid" in settings:
                return GridFile(whole, settings["grid"], (settings,), "", _group(settings))
        except (YAMLError, AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise ResultsError(
                f"{file}: is not the grid that the run was started with "
                f"({type(error).__name__}); start the run's command again, which writes it anew"
            ) from error
    place: dict[str, Any] = {}
    return GridFile({"stages": {stage: {"grid": place}}}, place, (), "")


def _group(settings: Any) -> int:
    """Completions of each prompt, which a batch of RLVR has whole, whichever arm it is of."""
    if settings.get("kind") != "rlvr":
        return 1
    arms = settings.get("arms", [])
    places = [settings, *(arm.get("set") or {} for arm in arms)]
    axes = [place.get("grid") or {} for place in (settings, *arms)]
    sizes = [place["group_size"] for place in places if "group_size" in place]
    sizes += [size for axis in axes for size in axis.get("group_size", [])]
    return math.lcm(settings.get("group_size", GROUP_SIZE), *sizes)


def _numbers(axis: Any) -> list[float]:
    """Those of an axis, a list or a range (sweep/gridfile/keys/axes.py)."""
    match axis:
        case {"log": [low, high], "count": count}:
            values = [low * (high / low) ** (place / (count - 1)) for place in range(count)]
            if isinstance(low, int) and isinstance(high, int):
                values = [round(value) for value in values]
        case {"log2": [low, high]}:
            values = [low * 2**octave for octave in range(int(math.log2(high / low) + 1e-9) + 1)]
        case list() if all(isinstance(value, int | float) for value in axis):
            values = axis
        case _:
            values = []
    return [_rounded(value) for value in values]


def _rounded(value: float) -> float:
    """As the values of a range are."""
    return value if isinstance(value, int) else float(f"{value:.4g}")


def _is_of(arm: str, label: str) -> bool:
    """Whether a table names a grid of this arm so: lion, or lion, weight_decay=0.1."""
    return label == arm or label.startswith(f"{arm}, ")


def _yaml() -> YAML:
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 96
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
