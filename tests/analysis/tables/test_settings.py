"""Settings of trials as columns of the table, and as names of arms."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.compare import source
from analysis.tables import load, settings
from analysis.tables.records import run_table
from tests.analysis import planted
from trainers.specs.identity import NOT_IN_IDENTITY
from trainers.specs.kinds import KINDS

SFT = {"kind": "sft", "data": "world:sft", "learning_rate": 1e-3, "batch_size": 4}


def trial(number: int, arm: str = "", **spec) -> tuple[Path, dict]:
    plain = {"learning_rate": 1e-3, "batch_size": 4, "seed": 0}
    record = {"key": str(number), "stage": "sft", "arm": arm, "parent": "p", "spec": plain | spec}
    return Path(str(number)), record


def read(*trials) -> list[tuple[str, dict]]:
    return [(one["arm"], one["settings"]) for _, one in settings.with_settings(list(trials))]


def test_axes_are_columns_and_arms():
    found = read(
        trial(0, adapter={"rank": 4, "alpha": 32.0}),
        trial(1, adapter={"rank": 16, "alpha": 32.0}),
        trial(2, adapter={"rank": 16, "alpha": 32.0}, learning_rate=1e-2),
    )
    assert found[0] == ("adapter.rank=4", {"adapter.rank": 4})
    assert found[1] == found[2] == ("adapter.rank=16", {"adapter.rank": 16})


def test_weights_in_4_bits_tell_adapters_apart_and_records_without_them_have_none():
    found = read(
        trial(0, adapter={"rank": 4}),
        trial(1, adapter={"rank": 4, "base_weights": "float32"}, learning_rate=1e-2),
        trial(2, adapter={"rank": 4, "base_weights": "nf4"}),
    )
    whole = {"adapter": "lora", "adapter.base_weights": "float32"}
    assert found[0][1] == found[1][1] == whole
    assert found[2][1] == {"adapter": "qlora", "adapter.base_weights": "nf4"}
    assert found[2][0] == "adapter=qlora, adapter.base_weights=nf4"


def test_named_arms_keep_their_names_and_their_settings():
    found = read(
        trial(0, "full"),
        trial(1, "lora", adapter={"rank": 8}, epochs=2.0),
        trial(2, "lion", optimizer="lion", lion_beta1=0.8),
    )
    assert [arm for arm, _ in found] == ["full", "lora", "lion"]
    assert found[1][1] == {
        "adapter": "lora", "adapter.rank": 8, "set.epochs": 2.0, "optimizer": "adamw",
        "lion_beta1": None, "set.arm": "lora", "adapter.base_weights": "float32",
    }  # fmt: skip
    assert found[0][1]["adapter"] == "" and found[2][1]["optimizer"] == "lion"


def test_axis_of_one_arm_is_in_the_names_of_its_cells_alone():
    read_arms = read(
        trial(0, "adamw"),
        trial(1, "lion", optimizer="lion", weight_decay=0.1),
        trial(2, "lion", optimizer="lion", weight_decay=1.0),
    )
    assert [arm for arm, _ in read_arms] == [
        "adamw", "lion, weight_decay=0.1", "lion, weight_decay=1.0",
    ]  # fmt: skip


def test_what_decides_no_weights_is_no_axis():
    assert set(settings.NO_AXES) >= NOT_IN_IDENTITY
    found = read(trial(0), trial(1, learning_rate=1e-2, save_every_minutes=1.0))
    assert found == [("", {}), ("", {})]


@pytest.mark.parametrize(("name", "values"), [("sgd_momentum", (0.5, 0.9)), ("data_seed", (0, 1))])
def test_records_hold_the_defaults_of_what_may_be_an_axis(name, values):
    """Else one of the two would have no value."""
    from sweep.storage.trial_folder import settings_of

    optimizer = {"optimizer": "sgd"} if name.startswith("sgd") else {}
    for value in values:
        spec = KINDS["sft"].model_validate(SFT | optimizer | {name: value})
        assert settings_of(spec)[name] == value
    plain = settings_of(KINDS["sft"].model_validate(SFT))
    assert not [one for one in plain if one.startswith(("sgd_", "lion_", "muon_", "adafactor_"))]


def test_table_has_the_columns_and_reads_them_again(tmp_path):
    run = planted.run_folder(tmp_path / "run")
    for path in sorted((run / "trials").glob("sft-*/trial.json")):
        record = planted.json.loads(path.read_text())
        even = int(record["key"]) % 2 == 0
        record["spec"] |= {"adapter": {"rank": 4 if even else 16}, "optimizer": "lion"}
        record["spec"] |= {"schedule": "linear" if even else "cosine"}
        path.write_text(planted.json.dumps(record))
    frame = run_table.write(run).frame
    assert list(frame)[-2:] == ["schedule", "adapter.rank"] or list(frame)[-2:] == [
        "adapter.rank", "schedule",
    ]  # fmt: skip
    sft = frame.loc[frame.stage == "sft"]
    assert set(sft["adapter.rank"]) == {4.0, 16.0} and set(sft.schedule) == {"linear", "cosine"}
    assert set(sft.optimizer) == {"lion"} and set(sft.adapter) == {"lora"}
    base = frame.loc[frame.stage == "base"]
    assert set(base.optimizer) == {""} and base["adapter.rank"].isna().all()
    pd.testing.assert_frame_equal(load.read(run / "results.csv"), frame)
    pd.testing.assert_frame_equal(load.read(run / "results.parquet"), frame)


def test_arms_stand_in_the_order_of_their_numbers(tmp_path):
    run = planted.run_folder(tmp_path / "run")
    for place, path in enumerate(sorted((run / "trials").glob("sft-*/trial.json"))):
        record = planted.json.loads(path.read_text())
        record["spec"]["adapter"] = {"rank": (4, 16, 100)[place % 3]}
        record["arm"] = "lora"
        record["spec"] |= {"learning_rate": 1e-3 * (1 + place // 3), "batch_size": 4}
        path.write_text(planted.json.dumps(record))
    frame = load.read(run)
    arms = list(dict.fromkeys(frame.arm[frame.stage == "sft"]))
    assert arms == [f"lora, adapter.rank={rank}" for rank in (4, 16, 100)]


def test_columns_that_make_arms_of_a_foreign_table_are_settings(tmp_path):
    text = "learning_rate,batch_size,rank,benchmark,value\n"
    text += "".join(f"{r},{b},{k},arc,0.5\n" for r in (1e-3, 1e-2) for b in (4, 8) for k in (1, 2))
    (tmp_path / "table.csv").write_text(text)
    frame = load.read_table(tmp_path / "table.csv", load.ReadOptions(by=["rank"])).frame
    assert set(zip(frame.arm, frame["set.rank"], strict=True)) == {("rank=1", 1.0), ("rank=2", 2.0)}


def chain(number: int, parent: str, stage: str = "dpo", **spec) -> tuple[Path, dict]:
    folder, record = trial(number, **spec)
    return folder, record | {"stage": stage, "parent": parent}


def test_parents_of_different_settings_are_arms_and_those_of_different_seeds_are_not():
    base = (
        Path("base"),
        {"key": "b", "stage": "base", "parent": None, "model": "tiny", "spec": None},
    )
    starts = [
        chain(0, "b", "sft", learning_rate=3e-4),
        chain(1, "b", "sft", learning_rate=3e-4, seed=1),
        chain(2, "b", "sft"),
    ]
    alike = [chain(10 + number, str(number)) for number in (0, 1)]
    assert [arm for arm, _ in read(base, *starts, *alike)] == [""] * 6
    found = read(base, *starts, *alike, chain(12, "2"))[4:]
    assert [arm for arm, _ in found] == ["parent=sft 3e-4 x 4"] * 2 + ["parent=sft 1e-3 x 4"]
    assert found[2][1] == {"set.parent": "sft 1e-3 x 4"}


def test_what_the_parents_start_from_is_named_where_it_alone_differs():
    starts = [chain(0, "b", "sft", epochs=1.0), chain(1, "b", "sft", epochs=2.0)]
    middle = [chain(10, "0", "dpo"), chain(11, "1", "dpo")]
    found = read(*starts, *middle, chain(20, "10", "rlvr"), chain(21, "11", "rlvr"))
    assert [arm for arm, _ in found[4:]] == [
        "parent=dpo 1e-3 x 4 from sft epochs=1.0 1e-3 x 4",
        "parent=dpo 1e-3 x 4 from sft epochs=2.0 1e-3 x 4",
    ]


def test_setting_edited_together_with_the_rates_makes_an_arm():
    found = read(
        trial(0, epochs=1.0, data={"name": "a.jsonl", "revision": None}),
        trial(1, epochs=2.0, data={"name": "b.jsonl", "revision": None}, learning_rate=1e-2),
        trial(2, epochs=2.0, data={"name": "b.jsonl", "revision": None}, learning_rate=1e-1),
    )
    assert [arm for arm, _ in found] == ["epochs=1.0, data=a.jsonl"] + [
        "epochs=2.0, data=b.jsonl"
    ] * 2


def test_setting_that_older_records_lack_is_no_arm():
    found = read(trial(0), trial(1, learning_rate=1e-2, label_smoothing=0.0))
    assert [arm for arm, _ in found] == ["", ""]


def test_trials_that_are_not_in_the_plan_are_told(tmp_path):
    run = planted.run_folder(tmp_path / "run")
    assert source.load(run).notes == ()
    plan = pd.read_csv(run / "plan.csv", dtype="str")
    plan[plan.stage != "sft"].to_csv(run / "plan.csv", index=False)
    (note,) = source.load(run).notes
    assert note.startswith("19 trials here are not in the plan")
