"""A miniature of each grid of adapters and optimizers, trained for real, from file to page."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]

MINIATURES = {
    "lora_lr_rank": (
        "grid={learning_rate: [0.001, 0.01], adapter.rank: [2, 8]}",
        ("adapter.rank", ["2", "8"]),
    ),
    "lora_lr_bs": (
        "grid={learning_rate: [0.001, 0.01], batch_size: [4, 8]}",
        ("arm", ["full", "lora"]),
    ),
    "optimizers": (
        "arms=",
        ("arm", ["adafactor", "adamw", "adamw_8bit", "lion", "muon", "sgd"]),
    ),
}
SMALL = (
    "model=tiny", "evaluate.benchmarks=[]", "resources={cpus_per_trial: 1}",
    "stages.sft.data={name: 'world:sft', examples: 40}", "stages.sft.epochs=null",
    "stages.sft.steps=2", "stages.sft.heldout=8", "stages.sft.max_length=64",
)  # fmt: skip


def few_rates(text: str) -> list[dict]:
    """The arms of a grid file, each over the ends of its own learning rates."""
    arms = YAML(typ="safe").load(text)["stages"]["sft"]["arms"]
    return [arm | {"grid": {"learning_rate": arm["grid"]["learning_rate"]["log"]}} for arm in arms]


@pytest.mark.slow
@pytest.mark.parametrize("name", MINIATURES)
def test_miniature_of_a_shipped_grid_runs_and_has_its_axis(name, drive, tmp_path):
    text = (ROOT / "grids" / f"{name}.yaml").read_text(encoding="utf-8")
    axes, (setting, values) = MINIATURES[name]
    axes += json.dumps(few_rates(text)) if name == "optimizers" else ""
    batch = () if name == "lora_lr_bs" else ("stages.sft.batch_size=4",)
    given = [part for one in (*SMALL, *batch, f"stages.sft.{axes}") for part in ("--set", one)]
    ended = drive(text, tmp_path / "run", *given)
    assert ended.code == 0, ended.output
    frame = pd.read_csv(ended.path / "results.csv")
    trained = frame.loc[frame.stage == "sft"]
    assert set(trained.status) <= {"ok", "diverged"}
    record = json.loads((ended.path / "report" / "recommendations.json").read_text())
    (axis,) = record["setting_axes"]
    assert axis["setting"] == setting
    assert list(axis["benchmarks"]["heldout_loss"]["values"]) == values
    page = (ended.path / "report" / "index.html").read_text()
    assert 'class="multiples"><svg' in page
    assert re.search(rf"across (the |{len(values)} )?{setting}", page)
    if name == "lora_lr_rank":
        assert set(trained["adapter.rank"]) == {2, 8} and set(trained.adapter) == {"lora"}
        small, large = (trained.trained_parameters[trained["adapter.rank"] == r] for r in (2, 8))
        assert 4 * small.iloc[0] == large.iloc[0]
    if name == "lora_lr_bs":
        assert set(trained.adapter[trained.arm == "full"].fillna("")) == {""}
        assert set(trained.adapter[trained.arm == "lora"]) == {"lora"}
    if name == "optimizers":
        assert dict(zip(trained.arm, trained.optimizer, strict=True)) == {v: v for v in values}
        rates = {arm: sorted(set(rows.learning_rate)) for arm, rows in trained.groupby("arm")}
        assert rates["sgd"] == [0.01, 1.0] and rates["lion"] == [5e-6, 5e-4]
        stages = record["stages"]
        assert {f"sft-{arm}" for arm in rates} <= set(stages)
