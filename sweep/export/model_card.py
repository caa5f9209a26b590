"""The model card of an exported model, written from the records of its run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from analysis.benchmarks import task
from analysis.text import number, title
from sweep.export import usage
from trainers.data.row_counts import Counts
from trainers.data.rows import sources
from trainers.models import load
from trainers.specs.identity import NOT_IN_IDENTITY, identified
from trainers.specs.kinds import KINDS
from trainers.specs.training import TrainingSpec


class Step(NamedTuple):
    """One training on the way to the model: trial.json and train.json."""

    trial: dict[str, Any]
    training: dict[str, Any]


class Facts(NamedTuple):
    """All that a card says. `line` is the trainings from the first to the model's own; `scores`
    are the records of scores/*.json; `chosen` says how the model was picked; `figure` is the file
    name of the sweep's contour, "" without one."""

    name: str
    run: str
    line: list[Step]
    prepared: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    chosen: str
    figure: str
    figure_of: str
    licence: dict[str, str]
    commit: str | None
    packages: dict[str, str]
    adapter: bool = False
    """Whether the folder holds an adapter, which needs its base model."""


def text(facts: Facts) -> str:
    """README.md: a head that the hub reads, and the card itself."""
    kind = facts.line[-1].trial["kind"]
    parts = [
        f"---\n{_head(facts, kind).to_yaml()}\n---",
        f"# {facts.name}",
        _opening(facts),
        "## Use",
        _use(facts, kind),
        "## Recipe",
        *[_recipe(step) for step in facts.line],
        "## Data",
        _data(facts),
        "## Scores",
        _scores(facts.scores),
        facts.chosen,
    ]
    if facts.figure:
        parts += [
            "## The sweep",
            f"![{facts.figure_of} over learning rate and batch size]({facts.figure})",
            f"{facts.figure_of} of every cell of the sweep that this model was taken from.",
        ]
    return "\n\n".join([*parts, "## Licence", _licence(facts), _made(facts)]) + "\n"


def _base(facts: Facts) -> str:
    return facts.line[0].trial["model"]


def _head(facts: Facts, kind: str) -> ModelCardData:
    base = _base(facts)
    reward = kind == "reward"
    results = [
        EvalResult(
            task_type="text-classification" if reward else "text-generation",
            dataset_type=record["benchmark"],
            dataset_name=task(record["benchmark"]).label,
            metric_type=score["metric"],
            metric_value=round(score["value"], 5),
        )
        for record in facts.scores
        for score in record["scores"]
        if score["primary"] and score["value"] is not None
    ]
    data = [source for step in facts.line for source in _sources(step.trial["spec"])]
    on_hub = {source["name"] for source in data if _on_hub(source, facts.prepared)}
    return ModelCardData(
        license=facts.licence.get("license"),
        license_name=facts.licence.get("license_name"),
        license_link=facts.licence.get("license_link"),
        base_model=base if load.on_hub(base) else None,
        datasets=sorted(on_hub) or None,
        library_name="peft" if facts.adapter else "transformers",
        pipeline_tag="text-classification" if reward else "text-generation",
        tags=[*dict.fromkeys(step.trial["kind"] for step in facts.line), "trl"],
        model_name=facts.name if results else None,
        eval_results=results or None,
    )


def _on_hub(data: dict[str, Any], prepared: Sequence[dict[str, Any]]) -> bool:
    """By its name, and by the records: local data stand there with their whole path."""
    name = data["name"]
    if name.count("/") != 1 or name.startswith("~") or sources.is_local(name):
        return False
    places = [place for preparation in prepared for place in preparation["sources"]]
    return not any(place.startswith("/") and _is_of(place, data) for place in places)


def _sources(spec: dict[str, Any]) -> Sequence[dict[str, Any]]:
    data = spec.get("data") or []
    return [data] if isinstance(data, dict) else data


def _opening(facts: Facts) -> str:
    last = facts.line[-1]
    stages = " -> ".join(title(step.trial["stage"]) for step in facts.line)
    size = last.training.get("model_parameters")
    parameters = f", {size:,} parameters" if size else ""
    own = last.training.get("trained_parameters")
    if last.trial["spec"].get("adapter") and own:
        in_4_bits = _in_4_bits(last)
        on = " on weights in 4 bits (NF4)" if in_4_bits else ""
        into = "the weights that these stand for" if in_4_bits else "the weights"
        what = "this is that adapter" if facts.adapter else f"merged into {into}"
        parameters += f" and an adapter of {own:,}{on}, {what}"
    return (
        f"`{_base(facts)}`{parameters}, trained by {stages}: trial `{last.trial['key']}` of the "
        f"run `{facts.run}`, a learning-rate x batch-size sweep with TRL and lm-eval."
    )


def _use(facts: Facts, kind: str) -> str:
    if facts.adapter:
        return usage.adapter(_base(facts), _in_4_bits(facts.line[-1]))
    return usage.judge() if kind == "reward" else usage.policy()


def _in_4_bits(step: Step) -> bool:
    """Whether the training's adapter was on weights in 4 bits."""
    return (step.trial["spec"].get("adapter") or {}).get("base_weights") == "nf4"


def _recipe(step: Step) -> str:
    """A stage's keys, those that have their default too: defaults change, a card does not."""
    trial, training = step
    spec = {k: v for k, v in trial["spec"].items() if v is not None and k not in NOT_IN_IDENTITY}
    rows = [(name, _plain(value)) for name, value in spec.items() if name not in ("data", "kind")]
    done = [
        f"{training[name]:,} {name}"
        for name in ("steps", "examples", "tokens")
        if training.get(name)
    ]
    arm = trial.get("arm") or ""
    kind = f"kind `{trial['kind']}`"
    spent = f"; trained for {', '.join(done)}" if done else ""
    ratio = ""
    if spec.get("learning_rate") and spec.get("batch_size"):
        ratio = f", LR/BS {number(spec['learning_rate'] / spec['batch_size'])}"
    return f"### {title(trial['stage'], arm)}\n\n{kind}{ratio}{spent}.\n\n" + _table(
        ("key", "value"), [(f"`{name}`", value) for name, value in rows]
    )


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, dict | list):
        return f"`{value}`"
    return str(value)


def _data(facts: Facts) -> str:
    """Every data set with the part that was taken, and what became of its rows."""
    rows = []
    for step in facts.line:
        for source in _sources(step.trial["spec"]):
            part = [f"{source['split']}" if source.get("split") else ""]
            part += [f"{source['examples']:,} examples"] if source.get("examples") else []
            part += [f"weight {source['weight']:g}"] if source.get("weight", 1) != 1 else []
            part += [f"revision `{source['revision']}`"] if source.get("revision") else []
            stage = title(step.trial["stage"], step.trial.get("arm") or "")
            rows.append((stage, f"`{_shown(source['name'])}`", ", ".join(filter(None, part))))
    table = _table(("stage", "data", "part"), rows)
    counts = [
        f"- {title(step.trial['stage'])}, {_shown(place)}: {Counts(**kinds).line()}"
        for step in facts.line
        for place, kinds in _prepared(step.trial, facts.prepared).items()
    ]
    return "\n\n".join([table, *(["\n".join(counts)] if counts else [])])


def _prepared(trial: dict[str, Any], prepared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of each data set of a training, of the last preparation that was asked for it."""
    spec, kind = trial["spec"], KINDS[trial["kind"]]
    given = _sources(spec)
    for preparation in reversed(prepared):
        asked, places = dict(preparation["asked"]), preparation["sources"]
        recorded = asked.pop("data")
        alike = len(recorded) == len(given) and all(map(_is_of, recorded, given))
        if alike and all(_same(kind, name, spec.get(name), value) for name, value in asked.items()):
            return places
    return {}


def _same(kind: type[TrainingSpec], name: str, given: Any, recorded: Any) -> bool:
    """A file stands in the records by its content; one that is not here is taken on trust."""
    try:
        return recorded == (given if name == "heldout" else identified(kind, name, given))
    except OSError:
        return True


def _is_of(place: str, data: dict[str, Any]) -> bool:
    """Whether `place` is what the records call a data set (`row_counts.name`), in whatever folder
    local data lay."""
    part = f"[:{data['examples']}]" if data.get("examples") else ""
    weight = f" x {data['weight']:g}" if data.get("weight", 1) != 1 else ""
    name = re.escape(str(Path(data["name"])))
    return bool(re.fullmatch(rf"(/.*/)?{name}([(@:][^[ ]*)?{re.escape(part + weight)}", place))


def _shown(place: str) -> str:
    """Without the folders of the machine that trained."""
    return place.rpartition("/")[2] if place.startswith(("/", ".", "~")) else place


def _scores(records: Sequence[dict[str, Any]]) -> str:
    """Primary metrics, ± one standard error over items, in the metric's own units."""
    rows = []
    for record in records:
        for score in record["scores"]:
            if not score["primary"] or score["value"] is None:
                continue
            error = "" if score["stderr"] is None else f" ± {number(score['stderr'])}"
            better = "higher" if score["higher_is_better"] else "lower"
            rows.append(
                (
                    task(record["benchmark"]).label,
                    f"{score['metric']} ({better} is better)",
                    f"{number(score['value'], 4)}{error}",
                    f"{score['n']:,}",
                )
            )
    if not rows:
        return "This model was not scored."
    return _table(("benchmark", "metric", "score ± standard error", "items"), rows)


def _licence(facts: Facts) -> str:
    base = _base(facts)
    if not facts.licence:
        return (
            f"The licence of the base model, `{base}`, could not be found out; look it up before "
            "this model goes anywhere. It binds these weights, and so may the data's licences."
        )
    name = facts.licence.get("license_name", facts.licence["license"])
    link = facts.licence.get("license_link")
    at = f" ({link})" if link else ""
    return (
        f"The base model, `{base}`, is under {name}{at}, and so are these weights; the data "
        "may bind them further."
    )


def _made(facts: Facts) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
    code = f"Commit {facts.commit}; " if facts.commit else ""
    return f"{code}{versions}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
