"""Grid files as people bring them: YAML's own readings, paths, and the keys of other tools."""

import os
import shutil
import warnings
from pathlib import Path

import pytest

from sweep.gridfile import load as config
from sweep.gridfile.load import GridError

CASES = Path(os.environ.get("SWEEP_CASES", Path(__file__).parents[4] / "shared" / "cases"))


@pytest.fixture
def refused(load, small):
    """The problems of the small grid with a part of it replaced."""

    def problems(old: str, new: str) -> str:
        assert old in small
        with pytest.raises(GridError) as caught:
            load(small.replace(old, new, 1))
        return str(caught.value)

    return problems


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2026-11-28", "2026-11-28 is a date"),
        ("007", "007 is read as the number 7; put it in quotes: '007'"),
        ("93e4567", "93e4567 is read as the number inf; put it in quotes: '93e4567'"),
        ("1_000", "1_000 is read as the number 1000; put it in quotes"),
        ("true", "true is read as true or false; put it in quotes"),
    ],
)
def test_text_that_yaml_reads_as_something_else_is_to_be_quoted(value, said, refused):
    assert said in refused("name: small", f"name: {value}")


def test_commit_that_looks_like_a_number_is_to_be_quoted_and_then_read(refused, load, small):
    model = "model: {name: a/b, revision: 12345678}"
    assert "quotes: '12345678'" in refused("model: tiny", model)
    grid = load(small.replace("model: tiny", model.replace("12345678", "'93e4567'")))
    assert grid.model.revision == "93e4567"


@pytest.mark.parametrize("head", ["", "%YAML 1.1\n---\n", "%YAML 1.2\n---\n"])
@pytest.mark.parametrize(
    ("rates", "read"),
    [("[1e-5, 3E-4, .5]", (1e-5, 3e-4, 0.5)), ("[1.0e-5, 5e-05]", (1e-5, 5e-5))],
)
def test_numbers_are_read_as_meant_whatever_the_yaml_version(head, rates, read, load, small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = load(head + small.replace("[0.001, 0.002]", rates))
    assert grid.stages["sft"].axes["learning_rate"] == read


def test_whole_numbers_with_a_point_are_the_same_trials(planned, small):
    same = planned(small.replace("[4]", "[4.0]"))
    assert [trial.key for trial in same] == [trial.key for trial in planned(small)]


@pytest.mark.parametrize(
    ("written", "said"),
    [("'1e-5'", "write 1e-5 without quotes"), ("10**-5", "write 1e-5"), ("3*10**-4", "write 3e-4")],
)
def test_number_that_is_a_text_is_said_as_a_number(written, said, refused):
    assert said in refused("[0.001, 0.002]", f"[{written}]")


def test_byte_order_mark_and_carriage_returns_are_nothing(planned, small, tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + small.replace("\n", "\r\n").encode())
    assert config.load(path).stages["sft"].axes["batch_size"] == (4,)


def test_merge_keys_give_way_and_own_keys_are_the_users(load, small):
    text = small.replace(
        "  sft:\n    kind: sft\n", "  sft:\n    <<: *common\n    x-note: [1]\n    max_length: 128\n"
    ).replace("    max_length: 128\n    heldout", "    heldout")
    grid = load("x-common: &common {kind: sft, max_length: 64, weight_decay: 0.1}\n" + text)
    spec = grid.stages["sft"].cells[0][1]
    assert (spec.max_length, spec.weight_decay) == (128, 0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a {<<: *a}\n", "a: unknown key"),
        ("name: a\n---\nname: b\n", "a second document"),
    ],
)
def test_odd_documents_are_refused_in_words(text, said, grid_file):
    with pytest.raises(GridError, match=said):
        config.load(grid_file(text))


def test_home_and_environment_are_filled_in(load, small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ITEMS", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n' * 40)
    for name in ("~/rows.jsonl", "${ITEMS}/rows.jsonl", "$ITEMS/rows.jsonl"):
        grid = load(small.replace("name: world:sft", f"name: '{name}'"))
        assert grid.stages["sft"].cells[0][1].sources[0].name == str(tmp_path / "rows.jsonl")


def test_variable_that_is_not_set_is_named(refused, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    said = refused("world:sft", "'${DATA_DIR}/a.jsonl'")
    assert (
        "grid.yaml:6: stages.sft.data.name: '${DATA_DIR}/a.jsonl': the environment has no" in said
    )
    assert "in quotes" in refused("world:sft", "${DATA_DIR}/a.jsonl")


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("{values: [0.1, 0.2]}", "did you mean [0.1, 0.2]?"),
        ("{choice: [0.1]}", "did you mean [0.1]?"),
        ("{loguniform: [1.0e-5, 0.1]}", "did you mean {log: [1e-05, 0.1], count: n}?"),
        ("{min: 1, max: 32, distribution: q_log_uniform_values}", "{log2: [1, 32]}"),
        ("{uniform: [0, 1]}", "a grid has no random values"),
        ("3.0e-4", "the list [0.0003]"),
    ],
)
def test_axis_in_the_words_of_another_tool_is_answered_in_ours(axis, said, refused):
    assert said in refused("[0.001, 0.002]", axis)


def test_number_of_seeds_is_answered_with_a_list(refused):
    assert "three seeds are [0, 1, 2]" in refused(
        "batch_size: [4]", "batch_size: [4]\n      seed: 3"
    )


def test_list_outside_the_grid_is_to_be_moved_into_it(refused):
    said = refused("    steps: 3", "    steps: [3, 4]")
    assert "stages.sft.steps: [3, 4]: a list; put it into `grid:`" in said


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("per_device_train_batch_size", "did you mean `batch_size`"),
        ("gradient_accumulation_steps", "`batch_size`"),
        ("num_train_epochs", "did you mean `epochs`?"),
        ("lr", "did you mean `learning_rate`?"),
        ("lr_scheduler_type", "did you mean `schedule`?"),
        ("max_seq_length", "did you mean `max_length`?"),
        ("bf16", "did you mean `dtype`: bfloat16?"),
        ("eval_dataset", "did you mean `heldout`"),
        ("report_to", "`tracking` of the grid"),
        ("packing", "not needed"),
        ("gradient_checkpointing", "not needed"),
        ("optim", "did you mean `optimizer`?"),
        ("load_in_4bit", "did you mean `adapter: {base_weights: nf4}`?"),
        ("bnb_4bit_compute_dtype", "did you mean `adapter: {base_weights: nf4}`?"),
        ("quantization_config", "did you mean `adapter: {base_weights: nf4}`?"),
        ("qlora", "did you mean `adapter: {base_weights: nf4}`?"),
        ("neftune_noise_alpha", "not supported: there is no NEFTune noise"),
        ("lora_r", "did you mean `adapter: {rank: ...}`?"),
        ("fsdp", "did you mean `resources`: {gpus_per_trial: 2, sharding: full}?"),
        ("zzz", "grids/grid.schema.json"),
    ],
)
def test_key_of_another_tool_is_one_short_line(key, said, refused):
    (line,) = refused("    steps: 3", f"    steps: 3\n    {key}: 1").splitlines()
    assert said in line
    assert len(line.partition(f"stages.sft.{key}: ")[2]) < 130


@pytest.mark.parametrize(
    ("key", "on", "off"),
    [
        ("train_on_inputs", "`loss_on`: all?", "`loss_on`: assistant?"),
        ("assistant_only_loss", "`loss_on`: assistant?", "`loss_on`: all?"),
        ("completion_only_loss", "`loss_on`: assistant?", "`loss_on`: all?"),
        ("bf16", "`dtype`: bfloat16?", "`dtype`: float32?"),
        ("load_in_4bit", "base_weights: nf4", "leave it out"),
        ("use_peft", "`adapter`, as", "leave it out"),
    ],
)
def test_switch_of_another_tool_is_answered_as_it_is_set(key, on, off, refused):
    for value, said in (("true", on), ("false", off)):
        assert said in refused("    steps: 3", f"    steps: 3\n    {key}: {value}")
        assert said in refused(
            "    steps: 3", f"    steps: 3\n    arms: [{{name: a, set: {{{key}: {value}}}}}]"
        )


def test_share_of_the_items_is_no_limit(refused):
    assert "items per task, an integer" in refused("limit: 8", "limit: 0.1")


def test_old_name_of_the_items_per_batch_is_read_and_said(load, small):
    old = load(small)
    new = load(small.replace("  batch_size: 8", "  items_per_batch: 8"))
    assert old.evaluate == new.evaluate
    assert old.notes == ("evaluate.batch_size: is called items_per_batch now; read as that",)
    assert new.notes == ()
    with pytest.raises(GridError, match="old name of items_per_batch"):
        load(small.replace("  batch_size: 8", "  items_per_batch: 8\n  batch_size: 8"))


def test_training_alone_can_be_swept(load, small):
    for listed in ("[]", "[heldout_loss]"):
        assert load(small.replace("[world_choice]", listed)).stages
    with pytest.raises(GridError, match=r"stages\.sft\.heldout: 0, .* nothing would be measured"):
        load(small.replace("[world_choice]", "[]").replace("heldout: 8", "heldout: 0"))


GOOD = "31/no_point 31/yaml11 31/float_batch 32/anchors 32/bom 32/crlf 32/merge_between_stages"
REFUSED = {
    "31/date_name": "quotes", "31/number_name": "quotes: '007'", "31/sha_exp": "quotes: '93e4567'",
    "31/sha_revision": "quotes: '12345678'", "31/quoted": "without quotes",
    "31/ten_to_minus": "write 1e-5", "31/scalar_axis": "the list [1e-05]",
    "32/tabs": "a tab; indent with spaces", "32/two_docs": "a second document",
    "32/utf16": "save it as UTF-8", "33/env": "no variable DATA_DIR",
    "34/limit_fraction": "items per task", "34/lists_outside_grid": "put it into `grid:`",
    "34/lora_axis": "adapter.rank", "34/ray_syntax": "did you mean [4, 8]?",
    "34/seeds_number": "three seeds are", "34/wandb_sweep": "did you mean [0.0001, 0.0003]?",
    "34/trl_keys": "did you mean `epochs`?", "36/ARC": "did you mean arc?",
    "36/GSM8K": "did you mean gsm8k?", "36/truthfulqa": "truthfulqa_mc1",
    "36/humaneval": "no sandbox", "36/ifeval_de": "did you mean",
}  # fmt: skip


@pytest.fixture
def case(tmp_path, monkeypatch):
    def copied(name: str) -> Path:
        folders = list(CASES.glob(f"{name.partition('/')[0]}-*"))
        if not folders:
            pytest.skip(f"no case {name}: {CASES} is not there")
        folder = shutil.copytree(folders[0], tmp_path / "case")
        monkeypatch.chdir(folder)
        return folder / f"{name.partition('/')[2]}.yaml"

    return copied


@pytest.mark.parametrize("name", [*GOOD.split(), "36/mmlu", "36/mmlu_stem", "36/winogrande"])
def test_case_loads(name, case):
    assert config.load(case(name)).stages


@pytest.mark.parametrize("name", REFUSED)
def test_case_is_refused_in_a_helpful_line(name, case, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    with pytest.raises(GridError) as caught:
        config.load(case(name))
    assert any(REFUSED[name] in line for line in caught.value.problems), str(caught.value)
    assert all(len(line) < 420 for line in caught.value.problems)
