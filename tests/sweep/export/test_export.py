"""The best model of a stage as a folder that transformers loads, with a card from the records."""

import json
import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.sweep.export.exporting import told


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def run(chain_run, tmp_path) -> Path:
    """A copy of the chain's run in which the second stage has two scored trials: the second has
    the better score and the worse held-out loss."""
    path = Path(shutil.copytree(chain_run.path, tmp_path / "chain"))
    one = next(p for p in (path / "trials").glob("second-*") if (p / "model").exists())
    other = Path(shutil.copytree(one, path / "trials" / "second-other"))
    record = read(one / "trial.json")
    (other / "trial.json").write_text(
        json.dumps(record | {"key": "other0000000", "spec": record["spec"] | {"weight_decay": 0.5}})
    )
    for record in (other / "scores").glob("*.json"):
        content = read(record)
        for score in content["scores"]:
            score["value"] += 0.125
        record.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def exported(chain_run, tmp_path_factory) -> Path:
    to = tmp_path_factory.mktemp("exported") / "mine"
    assert told(chain_run.path, "--to", to)[0] == 0
    return to


def test_the_exported_model_answers_a_question_in_its_chat_template(exported: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exported)
    model = AutoModelForCausalLM.from_pretrained(exported)
    turns = [{"role": "user", "content": "Where is Ada?"}]
    inputs = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert answer.shape[1] > inputs["input_ids"].shape[1]
    text = tokenizer.decode(answer[0])
    assert text.startswith("<|im_start|>user\nWhere is Ada?<|im_end|>\n<|im_start|>assistant\n")
    ends = model.generation_config.eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in (
        ends if isinstance(ends, list) else [ends]
    )


def test_the_weights_are_those_of_the_trial(chain_run, exported: Path) -> None:
    (trained,) = [p for p in (chain_run.path / "trials").glob("second-*") if (p / "model").exists()]
    for file in (trained / "model").iterdir():
        assert (exported / file.name).read_bytes() == file.read_bytes()


def test_the_card_is_written_from_the_records(chain_run, exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers"
    text = card.text
    (trained,) = [p for p in (chain_run.path / "trials").glob("second-*") if (p / "model").exists()]
    assert read(trained / "trial.json")["key"] in text
    assert text.index("### First") < text.index("### Second")
    assert "| `steps` | 3 |" in text and "| `steps` | 4 |" in text
    assert "| `learning_rate` | 0.001 |" in text and "world:sft" in text
    assert "16 to train on" in text
    for path in (trained / "scores").glob("*.json"):
        for score in read(path)["scores"]:
            if score["primary"] and score["stderr"]:
                assert f"{score['value']:.4g}"[:5] in text
    assert "(sweep.png)" in text and (exported / "sweep.png").exists()


def test_the_best_is_by_the_score_that_is_named(run: Path, tmp_path: Path) -> None:
    assert told(run, "--best", "world_choice", "--to", tmp_path / "a")[0] == 0
    text = (tmp_path / "a" / "README.md").read_text()
    assert "trial `other0000000`" in text and "the best of 2 cells by World choice" in text
    assert told(run, "--to", tmp_path / "b")[0] == 0  # the held-out loss: lower is better
    assert "other0000000" not in (tmp_path / "b" / "README.md").read_text()
    assert told(run, "--stage", "first", "--to", tmp_path / "c")[0] == 0
    assert "### Second" not in (tmp_path / "c" / "README.md").read_text()


def test_pairs_of_unlike_units_are_the_score_of_their_stage(run: Path, tmp_path: Path) -> None:
    manifest = read(run / "manifest.json")
    for asked in manifest["stages"]["second"]["evaluations"]:
        if asked["benchmark"] == "heldout_loss":
            asked["benchmark"] = "pair_accuracy"
    (run / "manifest.json").write_text(json.dumps(manifest))
    ended, output = told(run, "--to", tmp_path / "a")
    assert ended == 0 and "cells by Held-out pairs" in " ".join(output.split())


def test_a_stage_that_the_grid_file_has_no_more_is_exported_where_it_is_asked_for(
    run: Path, tmp_path: Path
) -> None:
    manifest = read(run / "manifest.json")
    manifest["earlier_stages"] = {"second": manifest["stages"].pop("second")}
    (run / "manifest.json").write_text(json.dumps(manifest))
    ended, output = told(run, "--stage", "second", "--to", tmp_path / "second")
    assert ended == 0 and "second" in output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--stage", "third"], 2, "the run's stages are first, second"),
        (["--stage", "base"], 2, "the run's stages are first, second"),
        (["--best", "gsm8k"], 2, "is scored on world_choice, world_arithmetic, heldout_loss"),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_is_written(
    run: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    ended, output = told(run, *arguments, "--to", tmp_path / "to")
    assert ended == code and said in " ".join(output.split())
    assert not (tmp_path / "to").exists()


def test_a_folder_that_holds_something_is_not_written_into(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no runs are, which the message would name
    to = tmp_path / "to"
    to.mkdir()
    (to / "mine.txt").write_text("mine")
    code, output = told(run, "--to", to)
    assert code == 2 and "not empty" in output
    assert [path.name for path in to.iterdir()] == ["mine.txt"]
    assert told(tmp_path / "nothing", "--to", tmp_path / "x") == (
        2,
        f"{tmp_path / 'nothing'}: no run folder (it has no manifest.json)\n",
    )


def test_the_folder_one_is_in_is_refused(chain_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = told(chain_run.path, "--to", ".")
    assert code == 2 and "name a new folder" in output


def test_weights_that_were_removed_are_said_to_be_gone_and_what_is_left(
    run: Path, tmp_path: Path
) -> None:
    (run / "trials" / "second-other" / "model").rename(tmp_path / "elsewhere")
    (run / "trials" / "second-other" / "weights_removed.json").write_text(
        json.dumps({"reason": "keep: best"})
    )
    code, output = told(run, "--best", "world_choice", "--to", tmp_path / "to")
    assert code == 4 and "are gone (keep: best)" in output and "left are those of" in output
    assert re.search(r"delete trials/[^/]+ of the run, then run", output)
    assert not (tmp_path / "to").exists()


def test_export_says_which_cell_it_took_and_why(run, tmp_path):
    code, output = told(run, "--to", tmp_path / "to")
    assert code == 0
    assert ", batch size 4, seed 0, weight_decay=0.0: the best of 2 cells by" in output
    assert "; second is learning rate" in output
    assert output.splitlines()[-1] == str(tmp_path / "to")


def test_cells_of_one_rate_are_told_apart_by_the_setting_that_differs(run, tmp_path):
    other = run / "trials" / "second-other"
    longer = shutil.copytree(other, run / "trials" / "second-longer")
    record = read(other / "trial.json")
    record |= {"key": "longer000000", "spec": record["spec"] | {"max_length": 96}}
    (longer / "trial.json").write_text(json.dumps(record))
    code, output = told(run, "--best", "world_choice", "--to", tmp_path / "to")
    assert code == 0
    assert "max_length=128" in output and "max_length=96" in output


def test_cells_that_lack_a_seed_are_not_counted_and_one_that_looks_better_is_named(run, tmp_path):
    other = run / "trials" / "second-other"
    lacks = shutil.copytree(other, run / "trials" / "second-another")
    record = read(other / "trial.json")
    record |= {"key": "another00000", "spec": record["spec"] | {"seed": 1}}
    (lacks / "trial.json").write_text(json.dumps(record))
    shutil.rmtree(lacks / "scores")
    code, output = told(run, "--best", "world_choice", "--to", tmp_path / "to")
    assert code == 0
    assert "the best of 1 cell with the scores of all seeds by World choice" in output
    assert "; of 1 other cell a seed has no score: learning rate 1e-3" in output
    assert "looks better (" in output and "second is" not in output
    card = (tmp_path / "to" / "README.md").read_text()
    assert "the best of 1 cell with the scores" in card and "looks better (" in card
    shutil.rmtree(next(p for p in (run / "trials").glob("second-lr1.00e-03*")))
    code, output = told(run, "--best", "world_choice", "--to", tmp_path / "alone")
    assert code == 0 and "the only scored cell by World choice" in output


def test_file_in_place_of_a_run_folder_is_one_sentence(tmp_path):
    (tmp_path / "grid.yaml").write_text("name: small\n")
    code, said = told(tmp_path / "grid.yaml", "--to", tmp_path / "model")
    assert code == 4
    assert "grid.yaml" in said and "Not a directory" in said
