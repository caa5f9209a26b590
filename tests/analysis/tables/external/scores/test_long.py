"""Long tables: a row per score, and perhaps one for its error."""

import pandas as pd
import pytest

from analysis.tables import load


def with_errors(sweep: pd.DataFrame, suffix: str = "") -> pd.DataFrame:
    scores = sweep.rename(columns={"eval/loss": "value"}).assign(task="arc", metric=f"acc{suffix}")
    scores["value"] /= 4
    errors = scores.assign(metric=f"acc_stderr{suffix}", value=scores["value"] / 100)
    both = pd.concat([scores, errors]).sort_index(kind="stable")
    return pd.concat([both, both.assign(task="piqa")]).reset_index(drop=True)


@pytest.mark.parametrize("suffix", [",none", "", ",strict-match"])
@pytest.mark.parametrize("repeats", [1, 2])
def test_rows_of_standard_errors_belong_to_their_scores(sweep, read, suffix, repeats):
    rows = pd.concat([with_errors(sweep, suffix)] * repeats)
    rows["note"] = [f"pasted {n // 80}" for n in range(len(rows))] if repeats > 1 else ""
    table = read(rows)
    assert set(table.frame.metric) == {"acc" + suffix.removesuffix(",none")}
    assert len(table.frame) == 40 * repeats
    assert table.frame.stderr.to_list() == pytest.approx((table.frame.value / 100).to_list())
    assert f"{40 * repeats} rows of standard errors: read with the rows of their scores" in (
        table.notes
    )


def test_an_error_without_its_score_is_a_question(sweep, read):
    rows = with_errors(sweep)
    with pytest.raises(load.ResultsError, match="The names do not say for: arc/acc_stderr"):
        read(rows.drop(index=0))
