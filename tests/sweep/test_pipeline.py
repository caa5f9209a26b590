"""SFT, DPO on the best of it, a reward model on that: the whole command, with the tiny model."""

import csv
import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(drive, pipeline, tmp_path_factory):
    return drive(pipeline, tmp_path_factory.mktemp("runs") / "pipeline")


def trials(ran) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for file in sorted(ran.path.glob("trials/*/trial.json")):
        record = json.loads(file.read_text())
        train = json.loads((file.parent / "train.json").read_text())
        found.setdefault(record["stage"], []).append(record | {"train": train})
    return found


def test_every_stage_has_run_from_the_chosen_parent(ran):
    assert ran.code == 0, ran.output
    found = trials(ran)
    assert {stage: len(some) for stage, some in found.items()} == {
        "base": 1, "sft": 4, "dpo": 1, "judge": 1,
    }  # fmt: skip
    chosen = json.loads((ran.path / "choices" / "dpo.json").read_text())
    assert found["dpo"][0]["parent"] == chosen["parent"]
    assert found["judge"][0]["parent"] == found["dpo"][0]["key"]
    assert chosen["parent"] in ran.output


def test_table_has_every_score_of_every_stage(ran):
    with open(ran.path / "results.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["primary"] == "True"]
    found = {(row["stage"], row["benchmark"], row["metric"]) for row in rows}
    assert {one for one in found if one[0] in ("dpo", "judge")} == {
        ("dpo", "world_choice", "acc"),
        ("dpo", "heldout_loss", "loss"),
        ("judge", "pair_accuracy", "accuracy"),
    }
    judged = next(row for row in rows if row["stage"] == "judge")
    assert float(judged["stderr"]) >= 0
    assert judged["n"] in ("8", "8.0")


def test_same_command_again_does_nothing(ran, drive, pipeline):
    again = drive(pipeline, ran.path)
    assert again.code == 0, again.output
    assert "7 of 7 models done, 0 to go" in again.output
