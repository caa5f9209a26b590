"""Models that are scored as they are: planned beside the sweep, never trained or started from."""

import json
import shutil
from pathlib import Path

import pytest

from analysis.tables import load as results

TABLE = """\
name: table
model: tiny
references: [{reference}]
evaluate:
  benchmarks: [world_choice, world_arithmetic]
  limit: 8
  batch_size: 8
"""
"""Nothing is trained."""


@pytest.fixture(scope="module")
def trained(chain_run) -> Path:
    """The trial folder of a model that a run of CHAIN has trained and scored."""
    return next(chain_run.path.glob("trials/first-*"))


@pytest.fixture(scope="module")
def table(trained, drive, tmp_path_factory):
    """A run that scores the tiny model and that trained one, each as it is."""
    folder = tmp_path_factory.mktemp("runs")
    reference = folder / "a trained one"
    shutil.copytree(trained / "model", reference)
    return drive(TABLE.format(reference=reference), folder / "table")


def test_references_follow_the_grids_model_and_change_no_key(planned, small):
    plain = planned(small)
    beside = planned(small, "references=[owner/one, {name: owner/two, revision: v2}]")
    assert [trial.stage for trial in beside[:3]] == ["base", "reference", "reference"]
    assert [beside[0], *beside[3:]] == plain
    one, two = beside[1:3]
    assert one.folder == f"reference-one-{one.key}"
    assert two.model.revision == "v2"
    assert one.key != two.key


@pytest.mark.parametrize(
    ("references", "said"),
    {
        "the grid's own": ("[tiny]", "references[0]: 'tiny' is the grid's model"),
        "twice": ("[a/b, a/b]", "references[1]: 'a/b' is named twice"),
        "no such folder": ("[./mine]", "references[0]: no model folder './mine'"),
        "not a list": ("a/b", "references: 'a/b' is not a list of models"),
        "unknown key": ("[{name: a/b, revison: v1}]", "did you mean `revision`?"),
        "a number": ("[3]", "references[0]: 3 is no model"),
        "nothing": ("[null]", "references[0]: None is no model"),
    }.values(),
)
def test_wrong_reference_is_told(references, said, load, small):
    from sweep.gridfile import load as config

    with pytest.raises(config.GridError) as wrong:
        load(small, f"references={references}")
    assert said in str(wrong.value)


def test_stage_may_not_be_called_reference(load, small):
    from sweep.gridfile import load as config

    with pytest.raises(config.GridError, match="give the stage another name"):
        load(small.replace("  sft:", "  reference:"))


def test_nothing_to_train_and_nothing_to_score_is_no_grid(load, small):
    from sweep.gridfile import load as config

    without = small.partition("stages:")[0] + "evaluate: {benchmarks: [world_choice]}\n"
    with pytest.raises(config.GridError, match="the key `stages` is missing"):
        load(without)


def test_references_are_scored_and_not_trained(table):
    assert table.code == 0, table.output
    assert "2 ok" in table.output
    (folder,) = table.path.glob("trials/reference-*")
    assert folder.name.startswith("reference-a-trained-one-")
    records = [json.loads(path.read_text()) for path in table.path.glob("trials/*/train.json")]
    assert [record["steps"] for record in records] == [0, 0]
    assert not list(table.path.glob("trials/*/model"))


def test_reference_has_the_scores_of_the_trial_that_it_was_copied_from(table, trained):
    here = results.read(table.path)
    there = results.read(trained.parent.parent)
    columns = ["benchmark", "metric", "value", "stderr", "n"]
    copied = here.loc[here.stage == "reference", columns].set_index(["benchmark", "metric"])
    first = there.loc[there.stage == "first", columns].set_index(["benchmark", "metric"])
    assert len(copied) > 2
    assert copied.equals(first.loc[copied.index])
    untrained = here.loc[here.stage == "base", columns].set_index(["benchmark", "metric"])
    assert not copied.equals(untrained.loc[copied.index])


def test_table_names_the_model_of_each_row(table):
    frame = results.read(table.path)
    assert frame.learning_rate.isna().all()
    named = dict(zip(frame.stage, frame.model, strict=True))
    assert named["base"] == "tiny"
    assert named["reference"].endswith("/a trained one")


def test_page_shows_each_model_by_name(table):
    page = (table.path / "report" / "index.html").read_text()
    assert "Models outside the grids" in page
    assert "a trained one" in page


def test_second_start_scores_nothing_again(table, drive):
    before = {path: path.stat().st_mtime_ns for path in table.path.glob("trials/*/scores/*")}
    text = table.path.with_name("table.yaml").read_text()
    again = drive(text, table.path)
    assert "2 of 2 models done, 0 to go" in again.output
    assert {p: p.stat().st_mtime_ns for p in table.path.glob("trials/*/scores/*")} == before
