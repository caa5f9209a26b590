"""Measure what only a GPU shows: `python -m tests.gpu`. Writes gpu.json and gpu.md; at most eight
minutes on one GPU of the class of an H100. Without a GPU it says so and ends well."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.processes import devices, process

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

SECONDS = 480.0
"""A measurement that would begin later than this is left out, and the table says so."""


def measurements() -> dict[str, Callable[..., dict[str, Any]]]:
    from tests.gpu import halves, scoring, training

    return {
        "kernels": training.kernels,
        "packed against alone": training.packed_against_alone,
        "losses against the CPU": training.losses_against_cpu,
        "training speed": training.speed,
        "evaluation": scoring.evaluation,
        "decoding": scoring.decoding,
        "two halves of a GPU": halves.side_by_side,
        "memory after each trial": training.memory_after_trials,
        "out of memory": training.out_of_memory,
        "resume": training.resume,
    }


def measure(
    setting: Any,
    chosen: dict[str, Callable[..., Any]],
    seconds: float,
    write: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Each measurement with its time; one that fails does not keep the others from running.

    `write` gets all results so far after each measurement: a lent GPU may be taken back any moment.
    """
    end = time.monotonic() + seconds
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, work) in enumerate(chosen.items()):
            begun = time.monotonic()
            if begun > end:
                results[name] = {"left_out": f"{seconds:.0f} s were over"}
                continue
            try:
                results[name] = work(setting, Path(folder, str(number)))
            except Exception as error:
                traceback.print_exc()
                results[name] = {"failed": f"{type(error).__name__}: {error}", "ok": False}
            results[name]["took_seconds"] = time.monotonic() - begun
            state = "failed" if results[name].get("ok") is False else "done"
            print(f"{name}: {state} in {results[name]['took_seconds']:.1f} s", flush=True)
            write(results)
    return results


def table(about: dict[str, Any], results: dict[str, Any]) -> str:
    """Markdown: a row for every figure."""
    lines = [f"{key}: {value}  " for key, value in about.items()]
    lines += ["", "| measurement | figure | value |", "|---|---|---|"]
    for name, result in results.items():
        for figure, value in _flat(result):
            lines.append(f"| {name} | {figure} | {_short(value)} |")
    return "\n".join(lines) + "\n"


def _flat(result: dict[str, Any], prefix: str = ""):
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}: ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, part in enumerate(value):
                yield from _flat(part, f"{prefix}{key} {number}: ")
        else:
            yield prefix + key.replace("_", " "), value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list):
        return ", ".join(_short(one) for one in value) or "none"
    return str(value).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of gpu.json and gpu.md")
    parser.add_argument("--only", help="names of measurements, separated by commas")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="none begins after these")
    arguments = parser.parse_args()
    if not devices.restrict(1):
        print("no GPU is visible here: nothing is measured (see docs/gpu.md)")
        return 0
    import torch

    from tests.gpu import setting

    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} cannot use the GPU of this machine: nothing is measured")
        return 0
    process.prepare(devices.cores(), 1)  # as a trial does
    chosen = measurements()
    if arguments.only:
        chosen = {name: chosen[name] for name in arguments.only.split(",")}
    about = {
        "GPU": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "CUDA": torch.version.cuda,
        "host": f"{platform.machine()}, {devices.cores()} cores",
        "model": setting.real().model,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)

    def write(results: dict[str, Any]) -> None:
        text = json.dumps({**about, "results": results}, indent=1)
        (arguments.out / "gpu.json").write_text(text)
        (arguments.out / "gpu.md").write_text(table(about, results))

    results = measure(setting.real(), chosen, arguments.seconds, write)
    write(results)
    print(table(about, results))
    return int(any(result.get("ok") is False for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
