"""Which scores may stand in one column: those of the same items, asked in the same way."""

from pathlib import Path
from typing import Any

from analysis.benchmarks import task
from analysis.tables.errors import ResultsError
from analysis.text import listed

MARKS = (
    ("documents", (), "on different items"),
    ("prompts", ("model", "template"), "on different prompts, as rendered,"),
)
"""What the scores of one benchmark have in common, all of them or those of one model and chat
template, and how they differ where they do not."""


def refuse_mixtures(rows: list[dict[str, Any]]) -> None:
    """Scores of one benchmark are compared, so they are of the same items; and those of one model,
    trained or not, of the same prompts. Another model has a chat template of its own, and a stage
    may give its models one. Records of earlier versions name no template.

    Raises:
        ResultsError: two of them are not; names both.
    """
    seen: dict[tuple[str, ...], tuple[Path, str | None]] = {}
    for row in rows:
        if "scored" not in row:
            continue
        path, settings = row["scored"]
        facts = {"model": row["model"], "template": str(settings.get("template"))}
        for mark, among, what in MARKS:
            place = (mark, row["benchmark"], *(facts[name] for name in among))
            other, expected = seen.setdefault(place, (path, settings.get(mark)))
            if settings.get(mark) != expected:
                raise ResultsError(
                    f"{row['benchmark']}: {other.parent.parent} and {path.parent.parent} were "
                    f"scored {what} and cannot stand in one column; find out what "
                    "changed between them (data, chat template, a library), then delete "
                    f"{path.name} in the scores/ of the one to score anew and run again"
                )


def notes(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """What readers of a column have to know of its scores."""
    settings = [row["scored"][1] for row in rows if "scored" in row]
    partial = dict.fromkeys(given["partial"] for given in settings if "partial" in given)
    return (*_classes(rows), *_templates(rows), *_cut(rows), *partial)


def _classes(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """A sentence for each benchmark on which different classes have scored the trials of one model:
    lm-eval's own and the fast one differ by rounding. Records of earlier versions do not say."""
    keys: dict[tuple[str, str], dict[str, set[str]]] = {}
    for row in rows:
        settings = row["scored"][1] if "scored" in row else {}
        if "model_class" in settings:
            classes = keys.setdefault((row["benchmark"], row["model"]), {})
            classes.setdefault(str(settings["model_class"]), set()).add(row["key"])
    return tuple(
        f"{task(benchmark).label}: "
        + " and ".join(f"{len(some)} by {name}" for name, some in sorted(classes.items()))
        + ", two classes whose scores differ by rounding, more in bfloat16; to score a model anew, "
        "delete its file in scores/ and run the same command again"
        for (benchmark, _), classes in keys.items()
        if len(classes) > 1
    )


def _templates(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """A sentence for each set of stages and arms whose models, all made of one, were asked in
    different chat templates, with the benchmarks on which they were."""
    asked: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for row in rows:
        settings = row["scored"][1] if "scored" in row else {}
        if "prompts" in settings:
            prompts = asked.setdefault((row["benchmark"], row["model"]), {})
            whose = f"{row['stage']} ({row['arm']})" if row["arm"] else row["stage"]
            prompts.setdefault(str(settings["prompts"]), {})[whose] = None
    benchmarks: dict[tuple[str, ...], dict[str, None]] = {}
    for (benchmark, _), prompts in asked.items():
        if len(prompts) > 1:
            sides = tuple(listed(list(names)) for names in prompts.values())
            benchmarks.setdefault(sides, {})[task(benchmark).label] = None
    return tuple(
        f"{listed(list(labels))}: asked in different chat templates: {'; '.join(sides)}; a "
        "difference between them may be one between the prompts"
        for sides, labels in benchmarks.items()
    )


def _cut(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """A sentence for each benchmark with prompts longer than a model's context. Records of earlier
    versions, and of lm-eval's own class, do not say."""
    most: dict[str, int] = {}
    for row in rows:
        cut = (row["scored"][1] if "scored" in row else {}).get("cut_prompts") or 0
        most[row["benchmark"]] = max(most.get(row["benchmark"], 0), cut)
    return tuple(
        f"{task(benchmark).label}: {cut} {'prompt is' if cut == 1 else 'prompts are'} longer than "
        "the model's context and scored without the beginning, the instructions and shots; "
        "shorter ones (another preset, fewer shots) would be whole"
        for benchmark, cut in most.items()
        if cut
    )
