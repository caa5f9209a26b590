"""Arms of one stage that start from several models, named by them as in the report."""

from collections import defaultdict
from collections.abc import Sequence

from analysis.text import rate
from sweep.storage.status.best_so_far import Row


def named_by_start(rows: Sequence[Row]) -> list[Row]:
    """The rows of plan.csv, parents before children. Where trials of a stage and arm start from
    several models, their `arm` has which: parent=sft 3e-4 x 8. Seeds of a start are one."""
    named: dict[str, Row] = {}
    stages: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        stages[row["stage"]].append(row)
    for of_stage in stages.values():
        starts = {row["key"]: _words(named.get(row.get("parent") or "")) for row in of_stage}
        of_arm: dict[str, set[str]] = defaultdict(set)
        for row in of_stage:
            of_arm[row["arm"]].add(starts[row["key"]])
        for row in of_stage:
            start = f"parent={starts[row['key']]}" if len(of_arm[row["arm"]]) > 1 else ""
            named[row["key"]] = row | {"arm": ", ".join(filter(None, (row["arm"], start)))}
    return [named[row["key"]] for row in rows]


def _words(row: Row | None) -> str:
    if row is None or not row["learning_rate"]:
        return "" if row is None else row["stage"]
    exact, short = row["learning_rate"], rate(float(row["learning_rate"]))
    cell = f"{short if float(short) == float(exact) else exact} x {row['batch_size']}"
    return " ".join(filter(None, (row["stage"], row["arm"], cell)))
