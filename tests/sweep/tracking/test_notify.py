"""Messages of a run, as a real HTTP server on this machine receives them (Apprise's json://)."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from sweep.gridfile.load import GridError
from sweep.storage import events
from sweep.tracking import notify

GRID = """\
name: told
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 40}
    grid: {learning_rate: [0.001, 0.002], batch_size: [4]}
evaluate: {benchmarks: []}
"""


class Server:
    """Keeps what is posted to it."""

    def __init__(self) -> None:
        received: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append(json.loads(body) | {"path": self.path})
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.received = received
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(notify, "POLL_SECONDS", 0.05)


def told(load, server_url: str, tmp_path, happened, *overrides: str) -> tuple[list[str], float]:
    """What the command says, and its seconds, while `happened` writes to the run folder."""
    grid = load(GRID + f"notify: {server_url}\n", *overrides)
    said: list[str] = []
    begun = time.monotonic()
    with notify.following(grid, tmp_path, said.append):
        happened(tmp_path)
    return said, time.monotonic() - begun


def write(path, *lines: dict[str, Any]) -> None:
    with open(path / "events.jsonl", "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def done(status: str, number: int = 0) -> dict[str, Any]:
    about = {"key": f"k{number}", "trial": f"sft-{number}", "status": status, "reason": "why"}
    return {"event": "failed" if status == "failed" else "done"} | about


STARTED = {"event": "started", "key": "k", "trial": "sft"}
ENDED = {"event": "ended", "duration": 90.0, "states": {"ok": 5, "diverged": 3}}


def test_end_of_a_run_is_told_with_its_answer(load, server, tmp_path, quick):
    statuses = [{"status": "interior"}, {"status": "interior"}]
    rates = {"task_types": {"reasoning": statuses}, "benchmarks": {"arc": statuses}}
    summary = {"headline": "Use learning rate 1e-3."}
    stages = {"sft": {"summary": summary, "learning_rate": rates}}
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "recommendations.json").write_text(json.dumps({"stages": stages}))
    told(load, server.url, tmp_path, lambda path: write(path, STARTED, done("ok"), ENDED))
    ended, decided = server.received
    assert ended["title"] == "told: ended: 5 ok, 3 diverged"
    assert "Took 1.5 min" in ended["message"] and "Use learning rate 1e-3." in ended["message"]
    assert decided["title"] == "told: decided"


def test_end_of_several_rounds_is_told_once_with_the_last(load, server, tmp_path, quick):
    def happened(path):
        write(path, STARTED, done("ok"), ENDED)
        time.sleep(0.5)
        write(path, STARTED, done("ok"), ENDED | {"states": {"ok": 9}})

    told(load, server.url, tmp_path, happened)
    (ended,) = server.received
    assert ended["title"] == "told: ended: 9 ok"
    assert "Took 3.0 min" in ended["message"]


def test_a_further_round_that_is_cut_off_is_no_end(load, server, tmp_path, quick):
    def happened(path):
        write(path, STARTED, done("ok"), ENDED)
        time.sleep(0.5)
        write(path, {"event": "begun", "planned": 4, "done": 1, "to_go": 3}, STARTED)

    told(load, server.url, tmp_path, happened)
    assert server.received == []


def test_limit_that_ends_a_run_is_told_with_its_end(load, server, tmp_path, quick):
    reason = "no further trial begins: of limits.max_cost (5 USD) 4.1 are used"
    told(load, server.url, tmp_path, lambda path: write(path, STARTED, ENDED | {"reason": reason}))
    ended, limit = server.received
    assert reason in ended["message"]
    assert (limit["title"], limit["message"]) == ("told: a limit has ended the run", reason)


@pytest.mark.parametrize(
    ("task_types", "benchmarks", "decided"),
    [
        ({}, {}, False),
        ({}, {"mmlu": ["interior", "edge"]}, False),
        ({}, {"mmlu": ["interior"]}, True),
        ({"reasoning": ["level"]}, {"arc": ["interior"]}, False),
        ({"loss": ["interior"]}, {"heldout_loss": ["interior"], "mmlu": ["edge"]}, False),
        ({"loss": ["interior"]}, {"heldout_loss": ["interior"], "arc": ["level"]}, True),
    ],
)
def test_decided_is_what_no_type_and_no_benchmark_without_one_leaves_open(
    task_types, benchmarks, decided
):
    both = {"task_types": task_types, "benchmarks": benchmarks}
    rates = {
        what: {name: [{"status": status} for status in its] for name, its in of.items()}
        for what, of in both.items()
    }
    assert notify.decided({"learning_rate": rates}) is decided


def test_failures_and_divergence_are_told_once_while_the_run_goes_on(load, server, tmp_path, quick):
    def happened(path):
        write(path, STARTED, *[done("ok", number) for number in range(4)])
        write(path, *[done("diverged", number) for number in range(4, 6)])
        time.sleep(0.5)
        assert server.received == [], "a third is not more than a third"
        write(path, done("diverged", 6), done("failed", 7))
        deadline = time.monotonic() + 10
        while len(server.received) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        write(path, done("failed", 8), done("diverged", 9))

    told(load, server.url, tmp_path, happened)
    titles = [message["title"] for message in server.received]
    assert titles == [
        "told: more than a third of the trials have diverged", "told: a trial has failed"
    ]  # fmt: skip
    assert server.received[0]["message"].startswith("3 of 7 trials")
    assert server.received[1]["message"] == "sft-7 (k7): why"


def test_share_that_has_diverged_is_that_of_all_starts(load, server, tmp_path, quick):
    write(tmp_path, STARTED, *[done("ok", number) for number in range(8)], ENDED)
    for number in (8, 9, 10, 11):
        told(load, server.url, tmp_path, lambda path, n=number: write(path, done("diverged", n)))
    assert server.received == [], "4 of 12"
    told(load, server.url, tmp_path, lambda path: write(path, done("diverged", 0)))
    assert [m["message"][:12] for m in server.received] == ["5 of 12 tria"], "it was trained anew"


def test_a_limit_that_is_near_is_told_once(load, server, tmp_path, quick):
    def happened(path):
        write(path, *[STARTED] * 9)
        time.sleep(0.5)
        write(path, STARTED)

    told(load, server.url, tmp_path, happened, "limits.max_trials=10")
    assert [m["title"] for m in server.received] == ["told: a limit is near"]
    assert server.received[0]["message"] == "9 of 10 trials (limits.max_trials)"


def test_a_run_that_cannot_go_on_is_told(load, server, tmp_path, quick):
    def happened(path):
        write(path, STARTED)
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError):
        told(load, server.url, tmp_path, happened)
    assert server.received[0]["title"] == "told: the run has failed"
    assert server.received[0]["message"] == "The run cannot go on: no disk"


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_is_interrupted_is_told_where_something_had_begun(
    load, server, tmp_path, quick, begun
):
    def happened(path):
        write(path, *[STARTED, done("failed")] * begun)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        told(load, server.url, tmp_path, happened)
    titles = ["told: a trial has failed", "told: the run was stopped"]
    assert [m["title"] for m in server.received] == titles * begun
    assert not begun or "the same command goes on" in server.received[1]["message"]


@pytest.mark.parametrize("mended", [True, False])
def test_records_that_cannot_be_read_are_told_once_and_read_again(
    mended, load, server, tmp_path, quick
):
    record = tmp_path / "report" / "recommendations.json"
    record.parent.mkdir()

    def happened(path):
        record.write_text("{")
        write(path, STARTED, {"event": "failed", "key": "k", "trial": "sft", "status": "failed"})
        write(path, done("failed"), ENDED)
        time.sleep(0.5)
        record.write_text("{}" if mended else "{")

    said, _ = told(load, server.url, tmp_path, happened)
    ended = "told: ended: 5 ok, 3 diverged" if mended else "told: ended"
    titles = ["told: a trial has failed", ended]
    assert [m["title"] for m in server.received] == titles
    assert len(said) == 2 and "reason" in said[0]
    assert "recommendations.json" in said[1] and "goes on" in said[1]


def test_earlier_starts_and_events_not_asked_for_are_not_told(load, server, tmp_path, quick):
    write(tmp_path, STARTED, done("failed"), ENDED)
    told(load, server.url, tmp_path, lambda path: write(path, ENDED))
    assert server.received == [], "this start has run nothing"
    url = f"{{to: [{server.url}], events: [limit]}}"
    told(load, url, tmp_path, lambda path: write(path, STARTED, done("failed"), ENDED))
    assert server.received == []


def test_a_target_that_is_down_is_told_once_and_costs_nothing(load, tmp_path, quick):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def happened(path):
        write(path, STARTED, done("failed"))
        time.sleep(0.5)
        write(path, ENDED)

    said, seconds = told(load, f"json://127.0.0.1:{port}", tmp_path, happened)
    assert len(said) == 1 and f"json://127.0.0.1:{port}" in said[0] and "goes on" in said[0]
    assert seconds < notify.FINISH_SECONDS


def test_a_target_that_never_answers_does_not_hold_the_run(load, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(notify, "FINISH_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"json://127.0.0.1:{silent.getsockname()[1]}"
        said, _ = told(load, url, tmp_path, lambda path: write(path, STARTED, done("failed")))
    assert "notify: the last messages were not taken in 0 s" in said


def test_secrets_come_from_the_environment_alone(load, server, tmp_path, quick, monkeypatch):
    with pytest.raises(GridError, match="has no variable TOLD"):
        load(GRID + "notify: ${TOLD}\n")
    monkeypatch.setenv("TOLD", f"{server.url}/secret")
    grid = load(GRID + "notify: ['${TOLD}']\n")
    assert "secret" not in json.dumps(grid.declared)
    assert "secret" not in grid.model_dump_json()
    with notify.following(grid, tmp_path, print):
        write(tmp_path, STARTED, done("failed"))
    assert server.received[0]["path"] == "/secret"


def test_whole_command_tells_of_its_end(small, drive, server, tmp_path):
    ended = drive(small + f"notify: {server.url}\n", tmp_path / "run")
    assert ended.code == 0
    assert [m["title"] for m in server.received] == ["run: ended: 3 ok"]
    assert events.read(tmp_path / "run" / "events.jsonl")[-1]["event"] == "ended"


@pytest.mark.slow
def test_whole_command_with_further_rounds_tells_of_its_end_once(small, drive, server, tmp_path):
    text = small.replace("steps: 3", "steps: 1").replace("limit: 8", "limit: 1")
    limits = f"limits: {{max_trials: 4}}\nnotify: {server.url}\n"
    ended = drive(text + limits, tmp_path / "run", "--extend")
    assert "extend, round 1: " in ended.output
    (told,) = [m["title"] for m in server.received if "ended" in m["title"]]
    assert told.startswith("run: ended: 4 ok")
