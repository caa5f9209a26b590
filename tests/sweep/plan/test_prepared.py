"""What is counted of the data reaches the plan of the run."""

import csv

from sweep.storage.run_folder import RunFolder
from trainers.data import row_counts
from trainers.data.row_counts import KINDS, Counts, Preparation

UNKNOWN = ("stages.sft.data=some/unknown-data", "stages.sft.steps=null", "stages.sft.epochs=2")
"""Only the hub knows how many rows these are."""


def test_plan_has_the_steps_of_the_data_that_was_prepared(load, planned, small, tmp_path):
    folder, trials = RunFolder(tmp_path / "run"), planned(small, *UNKNOWN)

    def steps() -> list[str]:
        folder.write_plan(load(small, *UNKNOWN), trials)
        with open(folder.path / "plan.csv") as rows:
            return [row["steps"] for row in csv.DictReader(rows)][1:]

    assert not any(steps())
    spec = trials[1].spec
    counts = Counts(**dict.fromkeys(KINDS, 0) | {"rows": 100, "train": 10 * spec.batch_size})
    cache = folder.data / "cache"
    cache.mkdir(parents=True)
    asked = row_counts.asked(spec)
    row_counts.write(cache, Preparation(asked=asked, sources={"some/unknown-data": counts}))
    assert steps()[0] == "20"
