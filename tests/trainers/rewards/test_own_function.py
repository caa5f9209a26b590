"""A reward function of the user's own: called as TRL calls it, and refused with its name."""

import pytest

from trainers.rewards import own_function
from trainers.specs.identity import identity
from trainers.specs.rlvr import RlvrSpec

ASK, SAID = [{"role": "user", "content": "?"}], [{"role": "assistant", "content": "four"}]


@pytest.fixture
def reward(tmp_path):
    def write(body, name="score"):
        path = tmp_path / "mine.py"
        path.write_text(body)
        return f"{path}:{name}"

    return write


def test_function_gets_completions_and_the_columns_of_their_rows(reward):
    mine = reward(
        "def score(prompts, completions, answer, **columns):\n"
        "    return [len(c[0]['content']) + a for c, a in zip(completions, answer)]\n"
    )
    columns = [{"answer": 1, "id": "a"}, {"answer": 2, "id": "b"}]
    assert own_function.problem(mine) is None
    assert own_function.rewards(mine, [ASK] * 2, [SAID] * 2, columns) == [5.0, 6.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def score(**all): return [1.0]", "a number for each"),
        ("def score(**all): return [None, 1]", "return finite numbers"),
        ("def score(**all): return 1 / 0", "ZeroDivisionError"),
        ("import nothing_there\ndef score(**all): return []", "nothing_there"),
    ],
)
def test_function_that_fails_is_named(body, said, reward):
    mine = reward(body)
    with pytest.raises(ValueError, match=r"reward .*mine\.py:score") as failed:
        own_function.rewards(mine, [ASK] * 2, [SAID] * 2, [{}, {}])
    assert said in str(failed.value)


def test_problem_is_found_without_running_the_file(reward):
    assert "has no function 'other'; it has score" in str(
        own_function.problem(reward("raise SystemExit\ndef score(**all): ...", "other"))
    )
    assert "mine.py:1" in str(own_function.problem(reward("def score(")))
    assert "/nowhere.py" in str(own_function.problem("/nowhere.py:score"))
    assert "use one of gsm8k" in str(own_function.problem("gsm9k"))


def test_content_of_the_file_is_in_the_key_and_its_path_is_not(reward, tmp_path):
    def spec(name):
        settings = {"kind": "rlvr", "data": "rows.jsonl", "learning_rate": 1e-3, "batch_size": 8}
        return RlvrSpec.model_validate(settings | {"reward": name})

    mine = reward("def score(**all): return []")
    first = identity(spec(mine))
    other = tmp_path / "elsewhere.py"
    other.write_text("def score(**all): return []")
    assert identity(spec(f"{other}:score")) == first
    other.write_text("def score(**all): return [1.0]")
    assert identity(spec(f"{other}:score")) != first
