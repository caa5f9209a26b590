"""What rests on AdamW or on training all weights knows with what a grid was trained."""

import numpy as np
import pandas as pd
import pytest

from analysis.advice.advise import Advice, advise
from analysis.advice.confounds import confounds
from analysis.figures import contour, surface_view
from analysis.figures.scaling_rules import NoiseScale
from analysis.fit.surface import Fit, fit
from analysis.posterior.cells import surfaces
from analysis.report.overview import overview
from analysis.tables.recipe import Recipe, recipe
from tests.analysis import planted

OF_ADAM = {"root_batch", "batch_to_the_0.28", "rises_then_falls", "larger_batch_lower_rate"}


def frame(optimizer: str = "adamw", adapter: str = "") -> pd.DataFrame:
    made = planted.table(planted.bowl, noise=0.002).assign(stage="sft")
    steps = 6400 // made.batch_size.to_numpy(dtype=int)
    beta2 = 0.999 if optimizer in ("adamw", "") else np.nan
    return made.assign(
        optimizer=optimizer, adapter=adapter, steps=steps, tokens=640_000, adam_beta2=beta2,
        learning_rate_sum=made.learning_rate * steps / 2, warmup_steps=0,
        model_parameters=134_515_008, examples=6400,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> Fit:
    """Of numbers that are the same whatever trained them."""
    (cells,) = surfaces(frame())
    return fit(cells)


def advice(fitted: Fit, rows: pd.DataFrame) -> Advice:
    return advise([fitted], None, rows)[0]


def test_words_and_whether_it_is_adam():
    assert recipe(frame("lion", "lora")) == Recipe("Lion", "LoRA")
    assert recipe(frame("adamw", "qlora")).words == "QLoRA by AdamW"
    assert Recipe("Lion", "LoRA").words == "LoRA by Lion"
    assert not Recipe("Lion").adam and not Recipe("AdamW and SGD").adam
    assert Recipe("AdamW and 8-bit AdamW").adam and recipe(frame("", "")).adam


@pytest.mark.parametrize(
    ("optimizer", "adapter", "rules", "settings"),
    [("adamw", "", True, True), ("adamw", "lora", True, False), ("sgd", "", False, False)],
)
def test_published_rules_are_asked_of_whom_they_are_about(
    optimizer, adapter, rules, settings, fitted
):
    names = {rule.name for rule in advice(fitted, frame(optimizer, adapter)).answers.rules}
    assert "higher_ratio_helps_reasoning" in names
    assert bool(names & OF_ADAM) == rules
    assert any(name.startswith("setting_") for name in names) == settings


@pytest.mark.parametrize(
    ("made", "lines", "triangles"),
    [
        (Recipe("AdamW"), {"square-root rule", "Surge curve", "critical batch size"}, True),
        (
            Recipe("AdamW", "LoRA"),
            {"square-root rule", "Surge curve", "critical batch size"},
            False,
        ),
        (Recipe("Muon"), {"critical batch size"}, False),
    ],
)
def test_contour_shows_the_rules_and_settings_of_its_recipe(made, lines, triangles, fitted):
    noise = NoiseScale(10.0, 8.0, 12.0, 20)
    chart = contour.contour(surface_view.fitted(fitted, noise=noise, recipe=made))
    drawn = {layer.name for layer in chart.named("") if layer.layer == contour.RULES}
    assert drawn == lines
    assert bool(chart.named("published")) == triangles


@pytest.mark.parametrize(("optimizer", "asked"), [("adamw", True), ("lion", False)])
def test_half_life_is_a_control_of_adamw_alone(optimizer, asked, fitted):
    rows = frame(optimizer)
    answers = list(advice(fitted, rows).answers.benchmarks.values())
    found = confounds(rows, "sft", [fitted], answers)
    (columns,) = found.arms.values()
    assert ("half_life_tokens" in {column.name for column in columns}) == asked
    assert ("constant half-life" in found.missing) == asked
    assert ("adam_beta2_half_life_tokens" in found.grid_file) == asked
    assert asked or "second moment" not in found.sentence


def test_half_life_of_one_arm_is_not_asked_of_another_optimizers(fitted):
    rows = pd.concat([frame("adamw"), frame("sgd").assign(arm="sgd", key="other")])
    answers = list(advice(fitted, rows).answers.benchmarks.values())
    found = confounds(rows, "sft", [fitted], answers)
    asked = {
        arm: next(c.asked for c in columns if c.name == "half_life_tokens")
        for arm, columns in found.arms.items()
    }
    assert asked == {"": True, "sgd": False}
    assert "not recorded" not in found.sentence


def test_first_screen_says_with_what_the_cells_were_trained(fitted):
    def facts(rows: pd.DataFrame) -> str:
        answers = advice(fitted, rows).answers
        return overview([fitted], answers.benchmarks, rows, None).facts

    assert facts(frame("lion", "lora")).endswith("Trained: LoRA by Lion.")
    assert "Trained" not in facts(frame("adamw"))
