"""Which cell an export takes, and why, in words."""

from pathlib import Path
from typing import Any, NamedTuple

from analysis.benchmarks import task
from analysis.tables.settings import with_settings
from analysis.text import counted, number, rate
from sweep.storage import ranking
from sweep.storage.ranking import Cell
from sweep.storage.run_folder import RunFolder, TrialFolder
from trainers import files


class Candidate(NamedTuple):
    """The first seed of a cell whose weights are there, else its first: its folder and trial.json,
    the arm with the settings that differ in the run, and the cell."""

    folder: TrialFolder
    trial: dict[str, Any]
    arm: str
    cell: Cell


def of_run(run_dir: Path) -> dict[str, tuple[TrialFolder, dict[str, Any]]]:
    """Folder and trial.json by key."""
    files_written = {}
    for path in sorted((run_dir / "trials").glob("*/trial.json")):
        record = files.read_json(path)
        files_written[record["key"]] = TrialFolder(path.parent), record
    return files_written


def ranked_by(trials: dict[str, Any], stage: str, evaluation: dict[str, Any]) -> list[Candidate]:
    """The cells of a stage by an evaluation, best first."""
    of_stage = {
        key: (folder, record)
        for key, (folder, record) in trials.items()
        if record["stage"] == stage
    }
    records = {key: record for key, (_, record) in trials.items()}
    cells = ranking.rank(
        ranking.with_score(ranking.of_record(record, records.get), folder, evaluation)
        for folder, record in of_stage.values()
    )
    left = [cell.with_weights(lambda key: of_stage[key][0].has_weights()) for cell in cells]
    named = with_settings([(folder.path, record) for folder, record in trials.values()])
    arms = {record["key"]: record["arm"] for _, record in named}
    return [
        Candidate(*of_stage[key or cell.key], arms[key or cell.key], cell)
        for key, cell in zip(left, cells, strict=True)
    ]


def measured(cell: Cell) -> str:
    """0.4375, the mean of 2 seeds."""
    value = number(cell.value, 4)
    return value if cell.seeds == 1 else f"{value}, the mean of {cell.seeds} seeds"


def why(chosen: Candidate, ranked: list[Candidate], stage: str, best: str) -> str:
    """sft, learning rate 1.3e-3, batch size 8, seed 0: the best of 20 cells by loss (1.06);
    second is ..."""
    of_same = [other for other in ranked if other.cell.complete == chosen.cell.complete]
    others = ""
    if len(of_same) > 1:
        others = f"; second is {_setting(of_same[1])} ({measured(of_same[1].cell)})"
    place = f"best of {compared(ranked)}" if len(ranked) > 1 else "only scored cell"
    return (
        f"{stage}, {_setting(chosen)}: the {place} by {task(best).label} "
        f"({measured(chosen.cell)}){others}{left_out(ranked)}"
    )


def compared(ranked: list[Candidate]) -> str:
    """The cells that the first is the best of, in words."""
    whole = [candidate for candidate in ranked if candidate.cell.complete]
    if not whole:
        return f"{counted(len(ranked), 'cell')}, none of which has the scores of all its seeds"
    cells = counted(len(whole), "cell")
    return cells if len(whole) == len(ranked) else f"{cells} with the scores of all seeds"


def left_out(ranked: list[Candidate]) -> str:
    """What the cells that lack a seed look like beside the first one, which has all."""
    lacking = [candidate for candidate in ranked if not candidate.cell.complete]
    if len(lacking) in (0, len(ranked)):
        return ""
    text = f"; of {counted(len(lacking), 'other cell')} a seed has no score"
    if ranking.looks_better([candidate.cell for candidate in ranked]) is not None:
        text += f": {_setting(lacking[0])} looks better ({measured(lacking[0].cell)})"
    return text


def _setting(candidate: Candidate) -> str:
    spec = candidate.trial["spec"]
    arm = f", {candidate.arm}" if candidate.arm else ""
    return (
        f"learning rate {rate(spec['learning_rate'])}, batch size {spec['batch_size']}, seed "
        f"{spec['seed']}{arm}"
    )


def gone(chosen: Candidate, ranked: list[Candidate], best: str) -> str:
    """Why the best has no weights, and which trials have theirs."""
    removed = chosen.folder.weights_removed() or "they are not there"
    left = [candidate.trial["key"] for candidate in ranked if candidate.folder.has_weights()]
    run = RunFolder(chosen.folder.path.parents[1])
    return (
        f"{chosen.folder.path}: the weights of the best by {best} are gone ({removed}); "
        f"{'no trial of the stage has any' if not left else 'left are those of ' + ', '.join(left)}"
        ". `keep: all` in the grid keeps every trial's; to train this one again delete "
        f"{run.to_delete(chosen.folder.path)}, then run the grid again"
    )
