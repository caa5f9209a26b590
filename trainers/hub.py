"""Everything that a grid needs from the hub, fetched once into this machine's caches.

`fetch` runs this module as a process of its own, which alone is ever online: whoever calls it can
stay offline (`HF_HUB_OFFLINE=1`, read by the libraries on import) before, during and after. Waiting
and trying again on 429 and 5xx, by Retry-After where the hub sends one, is huggingface_hub's own.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from trainers.data.rows import sources
from trainers.models import load as models
from trainers.specs.data import DataSpec, Model
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.fields import Strict
from trainers.tasks import benchmarks
from trainers.tasks.benchmarks import Benchmark

DATASET = re.compile(r"[\w.-]+/[\w.-]+")
"""An id on the hub, told from `json` and its like by its slash."""


class FetchFailed(Exception):
    """Something is not to be had here and now; the message names it and says why."""


class Needs(Strict):
    """What has to be fetched or converted; empty where all is local."""

    models: tuple[Model, ...]
    data: tuple[DataSpec, ...]
    evaluate: EvaluateSpec | None
    """The evaluation, if any of its benchmarks reads the hub."""
    offline: bool
    """Use only what was fetched earlier: the user's own HF_HUB_OFFLINE."""

    @property
    def empty(self) -> bool:
        return not self.models and not self.data and self.evaluate is None


Commits = dict[str, str]
"""`model:<name>`, `data:<name>@<revision>` or `benchmark:<data set>` -> commit on the hub."""


def needs(named: list[Model], data: list[DataSpec], evaluate: EvaluateSpec) -> Needs:
    """What a grid of these models needs here.

    Raises:
        ModelUnavailable: a model is in a package that is not installed.
    """
    on_hub = [d for d in dict.fromkeys(data) if _on_hub(d)]
    hub_benchmarks = any(hub_data(benchmark, evaluate) for benchmark in _benchmarks(evaluate))
    return Needs(
        models=tuple(
            model for model in named if models.on_hub(model.name) or _to_convert(model.name)
        ),
        data=tuple(on_hub),
        evaluate=evaluate if hub_benchmarks else None,
        offline=os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"),
    )


def _to_convert(name: str) -> bool:
    file = models.gguf_file(name)
    if file is None:
        return False
    from trainers.models import gguf

    return not gguf.place(file).exists()


def _on_hub(data: DataSpec) -> bool:
    return data.name not in sources.WORLD and not sources.is_local(data.name)


def hub_data(benchmark: Benchmark, spec: EvaluateSpec) -> list[str]:
    """Hub data sets of a benchmark's tasks, read from their files without importing lm-eval."""
    if spec.data_dir is not None and (benchmark.local_files or benchmark.pairs):
        return []
    if benchmark.pairs is not None:
        return [benchmark.pairs.data]
    named = [str(keys.get("dataset_path")) for keys in benchmarks.task_configs(benchmark)]
    return list(dict.fromkeys(name for name in named if DATASET.fullmatch(name)))


def _benchmarks(evaluate: EvaluateSpec) -> list[Benchmark]:
    named = [name for name in evaluate.benchmarks if name not in benchmarks.OF_STAGES]
    return [benchmarks.find(name) for name in named]


def pinned_model(model: Model, commits: Commits) -> Model:
    return model.model_copy(update={"revision": commits.get(f"model:{model.name}", model.revision)})


def pinned(data: DataSpec, commits: Commits) -> DataSpec:
    """The same data at the commit that was fetched, which needs no look at the hub."""
    commit = commits.get(data.cache_key)
    return data.model_copy(update={"revision": commit}) if commit else data


def at(needed: Needs, commits: Commits) -> Needs:
    """The same needs at the commits that were fetched here, for the other nodes."""
    update = {
        "models": tuple(pinned_model(model, commits) for model in needed.models),
        "data": tuple(pinned(data, commits) for data in needed.data),
    }
    return needed.model_copy(update=update)


def elsewhere(needed: Needs) -> Needs:
    """What of it a node can fetch that does not see this one's files."""
    there = tuple(model for model in needed.models if not os.path.exists(model.name))
    return needed.model_copy(update={"models": there})


def of_trials(needed: Needs) -> Needs:
    """What of it trials read, which find the training data prepared."""
    return needed.model_copy(update={"data": ()})


def fetch(needed: Needs) -> Commits:
    """Fetch, in a process of its own; for every node that runs trials, before any of them.

    Raises:
        FetchFailed: something is not to be had.
    """
    if needed.empty:
        return {}
    quiet = {} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"}  # no bars in a log
    environment = (
        os.environ
        | quiet
        | {
            "HF_HUB_OFFLINE": str(int(needed.offline)),
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
    )
    run = subprocess.run(
        [sys.executable, "-m", "trainers.hub"],
        input=needed.model_dump_json(),
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    if run.returncode:
        raise FetchFailed(run.stdout.strip() or "fetching ended without a word; see above")
    return json.loads(run.stdout.splitlines()[-1])


def access(name: str, kind: str) -> str:
    """Why a `model` or `dataset` cannot be fetched from the hub, asked in a process of its own; ""
    where it can."""
    code = (
        "import sys; from trainers import hub\n"
        "try: hub._look_up(sys.argv[1], sys.argv[2])\n"
        "except hub.FetchFailed as error: print(error); sys.exit(1)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-c", code, name, kind], env=environment, capture_output=True, text=True
    )
    return (run.stdout.strip() or "no answer") if run.returncode else ""


def _look_up(name: str, kind: str) -> None:
    """The hub names the commit of what is gated to everybody; who may fetch it is asked besides."""
    from huggingface_hub import HfApi, errors, set_client_factory

    from trainers import compat_hub

    set_client_factory(compat_hub.bounded_client)
    _commit(name, kind, None, kind)
    try:
        HfApi().auth_check(name, repo_type=kind)
    except errors.RepositoryNotFoundError as error:  # a gated one's is of this class
        raise FetchFailed(f"{kind}: {_reason(error)}") from error
    except Exception as error:  # offline, or away: what was fetched before is used
        print(f"{kind}: {_reason(error)}", file=sys.stderr)


def main() -> int:
    from huggingface_hub import set_client_factory

    from trainers import compat_hub

    needed = Needs.model_validate_json(sys.stdin.read())
    commits: Commits = {}
    set_client_factory(compat_hub.bounded_client)
    try:
        for model in needed.models:
            commits |= _fetch_model(model.name, model.revision)
        for data in needed.data:
            commits |= _fetch_data(data)
        if needed.evaluate is not None:
            for benchmark in _benchmarks(needed.evaluate):
                commits |= _fetch_benchmark(benchmark, needed.evaluate)
    except FetchFailed as error:
        print(error)
        return 1
    print(json.dumps(commits))
    return 0


def _fetch_model(name: str, revision: str | None) -> Commits:
    what = f"model {name!r}"
    commit = _commit(name, "model", revision, what) if models.on_hub(name) else None
    try:
        models.local_folder(name, commit)
    except Exception as error:  # hub client and file formats each raise their own
        raise FetchFailed(f"{what}: {_reason(error)}") from error
    return {f"model:{name}": commit} if commit else {}


def _fetch_data(data: DataSpec) -> Commits:
    what = f"data set {data.name!r}"
    commits = {data.cache_key: _commit(data.name, "dataset", data.revision, what)}
    try:
        next(sources.rows(pinned(data, commits)))
    except StopIteration:
        raise FetchFailed(f"{what}: split {data.split!r} is empty") from None
    except Exception as error:
        raise FetchFailed(f"{what}: {_reason(error)}") from error
    return commits


def _fetch_benchmark(benchmark: Benchmark, spec: EvaluateSpec) -> Commits:
    what = f"benchmark {benchmark.name!r}"
    names = hub_data(benchmark, spec)
    commits = {f"benchmark:{name}": _commit(name, "dataset", None, what) for name in names}
    if commits and benchmark.pairs is not None:
        _fetch_data(DataSpec(name=benchmark.pairs.data, split=benchmark.pairs.split))
    elif commits:
        from trainers.tasks import tasks

        try:
            tasks.load(benchmark, spec)
        except Exception as error:
            raise FetchFailed(f"{what}: {_reason(error)}") from error
    return commits


def _commit(name: str, kind: str, revision: str | None, what: str) -> str:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().resolve_revision(name, repo_type=kind, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise FetchFailed(f"{what}: {_reason(error, revision)}") from error
    print(f"{what}: {name} at {commit.resolved[:12]}", file=sys.stderr)
    return commit.resolved


def _reason(error: BaseException, revision: str | None = None) -> str:
    """One line: what the hub answered and what to do about it, or the error's own first line."""
    from huggingface_hub import errors

    chain = list(_chain(error))
    for known, advice in (
        (errors.GatedRepoError, "it is gated; accept its terms on the hub and set HF_TOKEN"),
        (errors.RepositoryNotFoundError, "the hub has none of that name, or it is private"),
        (errors.RevisionNotFoundError, f"the hub has it, but not revision {revision!r}"),
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set and it was not fetched before"),
    ):
        if any(isinstance(part, known) for part in chain):
            return advice
    for part in chain:
        status = getattr(getattr(part, "response", None), "status_code", None)
        if status == 429:
            return "the hub has had too many requests from here (429); wait, or set HF_TOKEN"
        if status is not None:
            return f"the hub answers {status}; try again later"
    lines: list[Any] = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0]} ({type(chain[-1]).__name__}); is the hub to be reached from here?"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    sys.exit(main())
