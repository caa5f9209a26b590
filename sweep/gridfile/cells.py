"""What can be wrong with cells beside each other.

(Place in the file, sentence) for each problem.
"""

from collections.abc import Iterable, Iterator

from analysis.text import counted, listed
from sweep.gridfile.keys.schema import SAME_FOR_ALL, Stage
from sweep.gridfile.yaml import KeyPath
from trainers.specs.identity import identity
from trainers.specs.kinds import StageSpec

Problems = Iterator[tuple[KeyPath, str]]


def one_slice(stage: Stage) -> Problems:
    """Every cell is scored on the held-out slice of the first, so none may train on its rows."""
    first_arm, first = stage.cells[0]
    if all(spec.heldout == 0 for _, spec in stage.cells):
        return
    for arm, spec in stage.cells:
        own = [key for key in SAME_FOR_ALL if getattr(spec, key) != getattr(first, key)]
        if own:
            yield (
                ("stages", stage.name, "arms"),
                f"{first_arm} and {arm} differ in {listed(own)}, and all arms are scored on one "
                "held-out slice, which one of them would train on; make each a stage of its own, "
                "or set `heldout: 0` for both",
            )
            return


def in_two_arms(stage: Stage) -> Problems:
    """A trial stands in the table of one arm, so a cell of two would be missing in one of them."""
    if len(stage.arms) > 1:
        for first, arm, cells in _shared(stage.cells):
            yield (
                ("stages", stage.name, "arms"),
                f"{arm} has {counted(len(cells), 'cell')} of {first}, with the same training "
                f"({cells[0]}); a cell stands in one arm alone: leave it out of one of them",
            )


def in_two_stages(stages: dict[str, Stage]) -> Problems:
    """Cells of stages that start from the same models: they are trained once."""
    alike: dict[str, list[tuple[str, StageSpec]]] = {}
    for name, stage in stages.items():
        start = alike.setdefault(f"{stage.start_from} {stage.parent!r}", [])
        start.extend((name, spec) for _, spec in stage.cells)
    for owned in alike.values():
        if len({name for name, _ in owned}) > 1:
            for first, name, cells in _shared(owned):
                yield (
                    ("stages", name),
                    f"{counted(len(cells), 'cell')} with the same training as in {first} "
                    f"({cells[0]}); trained once, in the table of {first} alone",
                )


def trained_twice(stage: Stage) -> Problems:
    """Cells that differ only in a key that neither of them reads are one training."""
    known: dict[str, dict[str, object]] = {}
    for _, spec in stage.cells:
        facts = identity(spec)
        ignored = {name: facts.pop(name) for name in spec.unread if name in facts}
        first = known.setdefault(str(facts), ignored)
        for name in (name for name in ignored if first[name] != ignored[name]):
            yield (
                stage.axis_place(name),
                f"cells with {first[name]} and {ignored[name]} are one training, as "
                f"{spec.unread[name]}; give `{name}` in an arm of the cells that read it",
            )
            return


def unread(stage: Stage) -> Problems:
    """Keys that were given and that no cell of the stage reads."""
    specs = [spec for _, spec in stage.cells]
    for name in specs[0].unread:
        default = type(specs[0]).model_fields[name].default
        given = {getattr(spec, name) for spec in specs} - {default}
        if given and all(name in spec.unread for spec in specs):
            values = listed([f"{value:g}" for value in sorted(given)])
            yield (
                ("stages", stage.name, name),
                f"{values} is not read: {specs[0].unread[name]}; a new grid leaves it out",
            )


def _shared(owned: Iterable[tuple[str, StageSpec]]) -> Iterator[tuple[str, str, list[str]]]:
    """Two owners, the earlier one first, and the cells of both, in words."""
    owners: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for owner, spec in owned:
        first = owners.setdefault(str(identity(spec)), owner)
        if first != owner:
            cell = f"learning rate {spec.learning_rate:g}, batch size {spec.batch_size}"
            shared.setdefault((first, owner), []).append(f"{cell}, seed {spec.seed}")
    for (first, owner), cells in shared.items():
        yield first, owner, cells
