"""What a run was made with: code and libraries that change between two starts are never mixed
silently."""

import shutil
from pathlib import Path

import pytest

from sweep.plan.evaluations import WantedByStage, wanted
from sweep.storage import manifest
from sweep.storage.run_folder import RunFolder
from trainers import files


@pytest.fixture
def copied(chain_run, tmp_path) -> Path:
    shutil.copytree(chain_run.path, tmp_path / "chain")
    return tmp_path / "chain"


def changed(run: Path, **update: dict[str, str]) -> None:
    """Have the run say that it was made with other code."""
    record = files.read_json(run / "manifest.json")
    for name, values in update.items():
        record[name] = record[name] | values
    files.write_json(run / "manifest.json", record)


def test_changed_code_is_refused_with_what_changed(copied, chain, drive):
    changed(
        copied,
        code={"trainers/ops/chunked_loss.py": "0", "trainers/old.py": "0"},
        packages={"trl": "1.0"},
    )
    ended = drive(chain, copied)
    assert ended.code == 4
    for said in (
        "trainers/ops/chunked_loss.py has changed",
        "trainers/old.py is gone",
        "trl 1.0 then",
    ):
        assert said in ended.output
    assert "--changed-code" in ended.output


def test_changed_code_that_is_asked_for_is_noted(copied, chain, drive):
    changed(copied, code={"trainers/ops/chunked_loss.py": "0"})
    assert drive(chain, copied, "--changed-code").code == 0
    record = files.read_json(copied / "manifest.json")
    (noted,) = record["code_changes"]
    assert noted["changed"] == ["trainers/ops/chunked_loss.py has changed"]
    assert record["code"] == manifest.code()
    assert drive(chain, copied).code == 0, "from here on the new code is the run's"


def test_other_version_of_ray_changes_no_number(copied):
    changed(copied, packages={"ray": "1.0"})
    assert manifest.changed_code(RunFolder(copied)) == []


def test_code_counts_from_the_first_training_on(copied):
    changed(copied, code={"trainers/ops/chunked_loss.py": "0"})
    assert manifest.changed_code(RunFolder(copied)) == ["trainers/ops/chunked_loss.py has changed"]
    for record in copied.glob("trials/*/train.json"):
        record.unlink()
    assert manifest.changed_code(RunFolder(copied)) == []


def test_moved_files_are_no_change_and_many_changes_are_counted():
    before = {"trainers/loss.py": "1", "trainers/gone.py": "2"}
    assert manifest._changed_files(before, {"trainers/ops/loss.py": "1"}) == [
        "trainers/gone.py is gone"
    ]
    many = {f"trainers/{number}.py": str(number) for number in range(90)}
    (line,) = manifest._changed_files(dict.fromkeys(many, "old"), many)
    assert line == "90 files of trainers/ differ, for example trainers/0.py has changed"


DATA = {"world:sft:train[:24]": "content", "world:preferences:train[:24]": "pairs"}


def test_a_stage_that_is_taken_out_keeps_its_evaluations_with_benchmarks_as_now(load, pipeline):
    def stages(wants: WantedByStage) -> dict[str, dict]:
        return {stage: {"evaluations": [w.record for w in some]} for stage, some in wants.items()}

    whole, sft = wanted(load(pipeline), DATA), pipeline.partition("  dpo:")[0]
    evaluate = "evaluate:\n  benchmarks: [world_choice]\n  limit: 4\n"
    now = wanted(load(sft + evaluate), DATA)
    left = manifest._earlier_stages({"stages": stages(whole)}, now)
    assert list(left) == ["dpo", "judge"]
    assert [want["benchmark"] for want in left["dpo"]["evaluations"]] == [
        "world_choice", "heldout_loss",
    ]  # fmt: skip
    assert left["dpo"]["evaluations"][0] == now["sft"][0].record != whole["dpo"][0].record
    assert left["dpo"]["evaluations"][1] == whole["dpo"][1].record
    record = {"stages": stages(now), "earlier_stages": left}
    assert manifest._earlier_stages(record, now) == left
    assert manifest._earlier_stages(record, whole) == {}, "they are back"
