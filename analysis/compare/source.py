"""One thing to report on: a run folder, a table, or a published one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.advice import without_contaminated
from analysis.audit import tables
from analysis.tables.item_tasks import item_tasks
from analysis.tables.load import ours, read_table
from analysis.tables.options import ReadOptions
from analysis.tables.records import run_folder, run_table
from analysis.tables.records.plan_file import empty_cells, left_out, unplanned
from analysis.tables.records.score_files import score_records


@dataclass(frozen=True)
class Source:
    """A table with its name; `folder`, `items` and `manifest` are a run folder's, else None or
    empty. `notes` say how another's table was read, and which of a run's scores to
    compare with care. `unselected` has the rows too that `--where` leaves out, None where it is the
    same."""

    name: str
    frame: pd.DataFrame
    folder: Path | None
    items: pd.DataFrame | None
    manifest: dict[str, Any]
    notes: tuple[str, ...] = ()
    unselected: pd.DataFrame | None = None

    @property
    def every_row(self) -> pd.DataFrame:
        """What has run, whichever rows are asked for."""
        return self.frame if self.unselected is None else self.unselected

    @property
    def grid_file(self) -> Path | None:
        """The grid that the run was started with."""
        return None if self.folder is None else self.folder / "grid.yaml"

    @cached_property
    def score_settings(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Trial and benchmark -> how it was scored; a table does not say."""
        if self.folder is None:
            return {}
        records = score_records(self.folder)
        return {(one.key, one.benchmark): one.record.get("settings") or {} for one in records}

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Stage -> its kind (sft, dpo, ...), as a run folder's trials say; a table's stages are
        named by their kind."""
        if self.folder is None:
            return {}
        return {
            trial["stage"]: trial.get("kind", "") for _, trial in run_folder.trials(self.folder)
        }

    @property
    def audited(self) -> tables.Audit | None:
        """What an audit of the training data found; None where there was none."""
        return None if self.folder is None else tables.read(self.folder / tables.FOLDER)

    def without_leaks(self) -> without_contaminated.Clean | None:
        """The tables without contaminated items; None where no audit looked for any."""
        audited = self.audited
        if self.folder is None or self.items is None:
            return None
        if audited is None or audited.contamination is None:
            return None
        pairs = tables.contaminated(self.folder / tables.FOLDER)
        record = audited.contamination
        items = run_table.items(self.folder)
        trials = [trial for _, trial in run_folder.trials(self.folder)]
        stages = record.get("stages", {})
        leaks = without_contaminated.leaked(pairs, stages, trials)
        trained = dict.fromkeys(trial["stage"] for trial in trials if trial.get("spec"))
        gone = [
            f"{stage}: the grid file has this stage no more, so its data were not looked at"
            for stage in trained
            if stages and stage not in stages
        ]
        benchmarks = set(self.every_row.benchmark)
        unscored = without_contaminated.unscored(pairs, benchmarks, items)
        tasks = item_tasks(self.folder, items)
        return without_contaminated.without(self.frame, items, leaks, tasks)._replace(
            unscored=unscored,
            unknown=[*tables.nothing_read(record), *gone],
            too_short=tables.too_short(record),
        )


def load(path: Path | str, options: ReadOptions | None = None, all_metrics: bool = True) -> Source:
    """Read one source; a run folder's results.csv and .parquet are rebuilt on the way. Items are of
    `all_metrics`, or of the primary ones.

    Raises:
        ResultsError: the path is neither, or what is there cannot be read.
    """
    options = options or ReadOptions()
    folder = Path(path)
    if not folder.is_dir() or not run_folder.is_run(folder):
        name = folder.absolute().name if folder.is_dir() else folder.stem
        if str(path).startswith("published:"):
            name = str(path).rpartition(":")[2]
        table = read_table(path, options)
        return Source(name, table.frame, None, None, {}, table.notes)
    run = run_table.write(folder)
    frame = ours(run.frame, str(path), options).frame
    manifest = run_folder.manifest(folder)
    name = manifest.get("name") or folder.name
    of_plan = (*unplanned(folder, frame), *left_out(folder, run.frame))
    notes = (*run.notes, *of_plan, *empty_cells(folder))
    items = run_table.items(folder, None if all_metrics else frame)
    unselected = None
    if options.where:
        unselected = ours(run.frame, str(path), replace(options, where={})).frame
    return Source(name, frame, folder, items, manifest, notes, unselected)


def distinct(sources: Sequence[Source]) -> list[Source]:
    """The same, each with a name of its own: a number after one that an earlier source has."""
    names = [source.name for source in sources]
    counts = [names[:place].count(name) for place, name in enumerate(names)]
    return [
        replace(source, name=f"{source.name} ({count + 1})") if count else source
        for source, count in zip(sources, counts, strict=True)
    ]
