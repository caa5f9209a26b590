"""Faults of what a training goes on from."""

import random
from pathlib import Path

from tests.faults.runs import Before, Run, must, wait_until


def checkpoint_cut(run: Run, chance: random.Random) -> None:
    """The driver is killed in training, and of the newest checkpoint one file is cut: it is refused
    by name, and training goes on from the one before."""
    process = run.start()
    victim = wait_until(lambda: _with_two_checkpoints(run), process)
    process.kill()
    process.communicate()
    steps = _steps(victim)
    file = chance.choice(sorted(steps[-1].iterdir()))
    file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size)])
    trained, _, starts = Before.of(run)
    run.end()
    Before(trained, {}, starts).check(run)
    events = run.attempts()[victim]
    refused = [event["checkpoint"] for event in events if event["event"] == "refused"]
    must(len(refused) == 1 and steps[-1].name in refused[0], f"{file.name} cut; refused: {refused}")
    resumed = [f"step-{event['step']:08}" for event in events if event["event"] == "resumed"]
    must(resumed == [steps[-2].name], f"went on from {resumed}, not from {steps[-2].name}")


def _with_two_checkpoints(run: Run) -> Path | None:
    """A trial that has just saved its second one, so that the next is some steps away."""
    for folder in run.path.glob("trials/second*"):
        if len(_steps(folder)) == 2 and not list(folder.glob("checkpoints/.*.part")):
            return folder
    return None


def _steps(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("checkpoints/step-*"))
