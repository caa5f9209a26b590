"""What the terminal shows of a run while it goes on, at 80 columns, as in a log."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from sweep.execution.job import Outcome
from sweep.storage.run_log import RunConsole
from sweep.storage.status.reader import RunStatus, TrialStatus
from sweep.terminal import progress, words
from trainers.files import Damaged

PLANNED = TrialStatus(
    key="abc", folder="sft-abc", stage="sft", arm="", learning_rate=1e-4, batch_size=8, seed=0,
    state="planned", phase="train", step=None, steps=100, loss=None, steps_per_second=None,
    tokens_per_second=None, seconds=0.0, held=0.0, gpu_seconds=0.0, cpu_seconds=0.0, lanes=1,
    gpus=0.0, cpus=1.0, reason="", last_sign=None, stalled=False,
)  # fmt: skip


def trial(**fields: Any) -> TrialStatus:
    return PLANNED._replace(**fields)


def of(*planned: TrialStatus) -> RunStatus:
    return RunStatus("r", list(planned), [], None, "", {}, [])


def shown(*planned: TrialStatus, width: int = 80, maps: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(progress.status(of(*planned), maps=maps))
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "reason", ["no [/answer] tag", "no [/INST]", "[enforce fail at a.cpp:75] [rank0] :x:"]
)
def test_reason_is_shown_as_it_stands(reason):
    assert reason in shown(trial(state="failed", reason=f"train: {reason}"))


@pytest.mark.parametrize("error", [OSError(116, "stale handle"), Damaged("x: cut off"), 7])
def test_status_that_cannot_be_read_leaves_the_run_alone(error):
    console = RunConsole(file=io.StringIO(), force_terminal=True, width=100)
    reads = iter([of(*[PLANNED] * 7)])

    def read() -> Any:
        run = next(reads, error)
        if isinstance(run, Exception):
            raise run
        return run

    with progress.live(console, read):
        console.print("one")
        console.print("two")
    text = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "two" in text and "r: 7 planned" in text.partition("two")[2]
    assert "the run goes on" in text


def test_running_trials_come_first_and_what_is_left_out_is_told():
    running = [trial(state="running", step=5)] * 24
    failed = [trial(state="failed", reason=f"reason {n}.") for n in range(25)]
    text = shown(*running, *failed, maps=False)
    assert text.count(" training ") == 20
    assert "reason 24." in text and "reason 19." not in text
    assert "and 4 more running, 20 more failed" in text
    assert "more" not in shown(*running[:20], *failed[:5], maps=False)


LONG = PLANNED._replace(
    stage="sft_long_context", learning_rate=1.23e-4, batch_size=128, steps=67890, step=12345
)
"""Of a trial whose columns do not fit 80 characters together."""


def test_columns_that_do_not_fit_are_left_out_whole():
    one = LONG._replace(state="running", loss=2.3456, tokens_per_second=123456.0, seconds=45000.0)
    running = [one, one._replace(seed=1)]
    text = shown(*running, maps=False)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    for part in ("sft_long_context", "1.2e-4", "128", "training", "12345/67890", "2.35"):
        assert text.count(part) == 2
    assert "123,456" not in text and "123,456" in shown(*running, width=120, maps=False)


def test_reason_has_its_own_line():
    text = shown(LONG._replace(state="failed", reason="train: out of\nmemory", seconds=310.0))
    line = "LR 1.2e-4 batch 128 seed 0 failed after 5 min 10 s: train: out of memory"
    assert f"sft_long_context {line}" in " ".join(text.split())


@pytest.mark.parametrize(("count", "state", "signs"), [(6, "planned", 0), (10, "diverged", 1)])
def test_map_has_signs_where_words_do_not_fit(count, state, signs):
    cells = [trial(batch_size=2**n, state=state) for n in range(count)]
    text = shown(*cells)
    assert ("x diverged" in text) is bool(signs)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80


def test_map_of_very_many_batch_sizes_goes_on_below():
    cells = [trial(batch_size=1000 + n, state="ok") for n in range(40)]
    text = shown(*cells)
    assert re.findall(r"\b1\d{3}\b", text) == [str(1000 + n) for n in range(40)]


def test_stages_without_a_map_have_a_line():
    base = trial(stage="base", learning_rate=None, batch_size=None, seed=None, state="ok")
    text = shown(
        base,
        *[base._replace(stage="reference")] * 3,
        *(trial(seed=seed, state="ok" if seed else "failed") for seed in range(3)),
        *(trial(stage="dpo", learning_rate=rate) for rate in (1e-6, 1e-5)),
    )
    for line in (
        "The model before training: done", "Reference models: 3 of 3 done",
        "SFT: 2 of 3 done, 1 failed", "DPO: state",
    ):  # fmt: skip
        assert line in text.splitlines()


def test_trials_of_two_arms_are_told_apart():
    arms = [trial(state="running", arm=f"weight_decay={value}") for value in (0.0, 0.1)]
    text = shown(*arms, maps=False)
    assert "weight_decay=0.0" in text and "weight_decay=0.1" in text


@pytest.mark.parametrize(
    ("step", "steps", "word"),
    [(None, 10, "starting"), (5000, None, "step 5,000"), (1200, 1000, "99%"), (10, 100, "10%")],
)
def test_cell_says_how_far_it_is(step, steps, word):
    assert words.cell_word([trial(state="running", step=step, steps=steps)]) == word


def test_line_of_a_trial_tells_it_from_all_others(planned, chain):
    axes = "stages.first.grid={weight_decay: [0, 0.1]}"
    trials = planned(chain, axes, "stages.second.parent=each")
    by_key, lines = {one.key: one for one in trials}, []
    for one in trials:
        console = Console(file=io.StringIO(), width=80)
        progress.outcome(console, 1, 9, one, by_key, Outcome(one.key, "ok", "", 1.0, 1.0))
        lines.append(console.file.getvalue())  # pyright: ignore[reportAttributeAccessIssue]
    assert len(set(lines)) == len(lines) > 4
    assert "weight_decay=0.1" in lines[-1]


def test_line_of_a_trial_names_no_start_that_all_share(planned, chain):
    trials = planned(chain, "stages.second.parent=each")
    by_key = {one.key: one for one in trials}
    for one in trials:
        console = Console(file=io.StringIO(), width=80)
        progress.outcome(console, 1, 9, one, by_key, Outcome(one.key, "ok", "", 1.0, 1.0))
        assert " from " not in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
