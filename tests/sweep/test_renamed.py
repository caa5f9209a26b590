"""A stage or an arm with another name is the same training, and goes on."""

import shutil

import pandas as pd
import pytest

AS_IS = "    arms: [{name: as_is, set: {}}]\n    steps: 4\n"


@pytest.mark.slow
def test_trials_of_a_renamed_stage_and_arm_are_not_trained_again(chain_run, chain, drive, tmp_path):
    run = tmp_path / "chain"
    shutil.copytree(chain_run.path, run)
    before = {path: path.read_text() for path in run.glob("trials/second-*/attempts.jsonl")}
    text = chain.replace("  second:", "  later:").replace("    steps: 4\n", AS_IS)
    ended = drive(text, run)
    assert ended.code == 0
    assert "3 of 4 models done, 1 to go" in ended.output, "the start lacks the loss on later's rows"
    assert before == {path: path.read_text() for path in before}
    assert not list(run.glob("trials/later-*"))
    table = pd.read_csv(run / "results.csv", keep_default_na=False)
    assert set(zip(table.stage, table.arm, strict=True)) == {
        ("base", ""), ("first", ""), ("later", "as_is"),
    }  # fmt: skip
