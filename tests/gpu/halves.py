"""Two trials side by side, each with half a GPU, and one alone: `python -m tests.gpu.halves`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.gpu import setting as settings
from tests.gpu.setting import ROOT, Setting


def side_by_side(setting: Setting, folder: Path) -> dict[str, Any]:
    """Speed of one trial of half a GPU alone, of two at once, and what each of these holds."""
    name = "real" if setting == settings.real() else "small"
    alone = _ended([_started(name, folder / "alone")])
    both = _ended([_started(name, folder / str(number)) for number in range(2)])
    together = sum(trial["tokens_per_second"] for trial in both)
    return {
        "alone": alone[0],
        "both": both,
        "gain": together / alone[0]["tokens_per_second"],
        "ok": all(trial["reserved"] <= trial["limit"] for trial in both),
    }


def _started(name: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.gpu.halves", name, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _ended(processes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a trial of half a GPU failed; see above")
    return [json.loads(text.splitlines()[-1]) for text in said]


def main(name: str, folder: Path) -> None:
    from trainers.processes import devices, process

    devices.restrict(0.5)
    process.go_offline()
    process.prepare(1, 0.5)

    import torch

    from tests.gpu import training

    setting = settings.real() if name == "real" else settings.small()
    result = training.at_batch(setting, folder, setting.batches[0])
    on_gpu = torch.cuda.is_available()
    fraction = torch.cuda.get_per_process_memory_fraction() if on_gpu else 0.0
    total = torch.cuda.get_device_properties(0).total_memory if on_gpu else 0
    result["reserved"] = torch.cuda.max_memory_reserved() if on_gpu else 0
    result["limit"] = int(fraction * total)
    print(json.dumps(result))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1], Path(sys.argv[2]))
