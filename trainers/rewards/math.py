"""Whether two mathematical answers are equal, by math-verify in a process of its own.

sympy can work for hours on a short text (`9^{9^{9^9}}`). math-verify's own time limit is an alarm
signal, which only a main thread has and which does not stop one long multiplication; trials run in
threads. So the grader is a process that is killed and started again:
`python -m trainers.rewards.math` reads a line of JSON, `[answer, truth]`, and writes `true` or
`false`.
"""

import atexit
import json
import os
import select
import subprocess
import sys
import threading

SECONDS = 5
"""For one comparison; math-verify's own default."""

START_SECONDS = 60
"""For loading sympy on a machine that is busy."""

LONGEST = 20_000
"""Characters of the end of an answer that are read: the answer is there."""


def equal(answer: str, truth: str) -> bool:
    """Whether the answer's last expression, the boxed one first, is the truth (LaTeX or plain)."""
    answer = answer[-LONGEST:]
    if not answer.strip():
        return False
    with _lock:
        return _grader.ask(answer, truth)


class _Grader:
    """The process, started when it is first asked, and anew in a forked one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def ask(self, answer: str, truth: str) -> bool:
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps([answer, truth]).encode() + b"\n")
        process.stdin.flush()
        line = self._line(process, 3 * SECONDS)
        if line is None:
            self.stop()
            return False
        return json.loads(line)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # the one that forked this process asks the other
            self._inherited, self._process, self._owner = self._process, None, os.getpid()
        if self._process is not None and self._process.poll() is None:
            return self._process
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trainers.rewards.math"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        if self._line(self._process, START_SECONDS) is None:
            self.stop()
            raise RuntimeError("the grader of mathematical answers does not start; see above")
        return self._process

    @staticmethod
    def _line(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
        """The next line, or None where there is none in time. A line is written at once."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        return (process.stdout.readline() or None) if ready else None

    def stop(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.communicate()
            self._process = None


_grader, _lock = _Grader(), threading.Lock()
atexit.register(_grader.stop)


def _equal(answer: str, truth: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    formats = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    gold = parse(f"${truth}$", formats, parsing_timeout=SECONDS)
    parsed = parse(answer, formats, parsing_timeout=SECONDS)
    return bool(gold) and verify(gold, parsed, timeout_seconds=SECONDS)


def _serve() -> None:
    import math_verify  # noqa: F401  (loaded before the first question)

    print("ready", flush=True)
    for line in sys.stdin:
        answer, truth = json.loads(line)
        print(json.dumps(_equal(answer, truth)), flush=True)


if __name__ == "__main__":
    _serve()
