"""A long table, a row per score -> benchmark, metric, value and error of each row."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.tables.external.names.benchmarks import all_named
from analysis.text import counted

STDERR = re.compile(r"[_ ](?:stderr|std_err|standard_error)(?=,|$)")


def errors_beside(
    raw: pd.DataFrame, mapping: dict[str, str]
) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """The table with its rows of acc_stderr,none as a column beside those of acc,none, where each
    is like one of these in all else; as it is where not."""
    metric, value = mapping["metric"], mapping["value"]
    names = raw[metric].astype("str")
    of_errors = names.str.contains(STDERR)
    if not of_errors.any():
        return raw, mapping, []
    alike = raw.drop(columns=value).astype("str")
    alike[metric] = names.str.replace(STDERR, "", regex=True)
    times = alike.groupby([*(alike[name] for name in alike), of_errors]).cumcount()
    keys = pd.concat([alike, times], axis=1).apply(tuple, axis=1)
    errors: Any = dict(zip(keys[of_errors], raw.loc[of_errors, value], strict=True))
    if not set(errors) <= set(keys[~of_errors]):
        return raw, mapping, []
    notes = [
        f"{counted(len(errors), 'row')} of standard errors: read with the rows of their scores"
    ]
    return raw[~of_errors].assign(stderr=keys.map(errors)), mapping | {"stderr": "stderr"}, notes


def scores_of_long(raw: pd.DataFrame, mapping: Mapping[str, str]) -> pd.DataFrame:
    """Benchmark, metric and value of each row, the value as written."""
    part = pd.DataFrame(index=raw.index)
    names = [mapping[role] for role in ("benchmark", "metric") if mapping.get(role) in raw]
    texts = [raw[name].fillna("").astype("str") for name in names]
    metric = texts[1] if len(texts) > 1 else pd.Series("", raw.index)
    metric = metric.str.removesuffix(",none")
    read = all_named(texts[0].unique())
    part["benchmark"] = [read[name][0] for name in texts[0]]
    part["metric"] = (metric + " " + texts[0].map(lambda name: read[name][1])).str.strip()
    part["value"] = raw[mapping["value"]]
    for name in ("stderr", "n", "primary", "higher_is_better"):
        if mapping.get(name) in raw:
            part[name] = raw[mapping[name]]
    return part


def benchmarks_notes(
    raw: pd.DataFrame, mapping: Mapping[str, str], scored: pd.DataFrame
) -> list[str]:
    """Which benchmarks of a long table have another name here."""
    written = (
        raw[mapping["benchmark"]].astype("str") if "benchmark" in mapping else scored.benchmark
    )
    pairs = sorted(
        {pair for pair in zip(written, scored.benchmark, strict=True) if pair[0] != pair[1]}
    )
    return [f"{name}: read as {benchmark}" for name, benchmark in pairs if benchmark]
