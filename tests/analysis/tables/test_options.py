"""The options of the command line that say how tables are read."""

import argparse

import pytest

from analysis.tables import options


def parsed(*arguments: str) -> options.ReadOptions:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    return options.from_arguments(parser.parse_args(list(arguments)))


def test_options_are_collected():
    given = parsed(
        *("--where", "model=a", "--by", "epochs", "--by", "wd", "--last", "step"),
        *("--columns", "learning_rate=lr,value=acc,none,seed=", "--direction", "a=b/zing=min"),
    )
    assert given.where == {"model": "a"}
    assert given.by == ("epochs", "wd") and given.last == "step"
    assert given.columns == {"learning_rate": "lr", "value": "acc,none", "seed": ""}
    assert given.directions == {"a=b/zing": "min"}


@pytest.mark.parametrize(
    "arguments", [("--where", "model"), ("--columns", "lr"), ("--direction", "loss=down")]
)
def test_what_is_no_pair_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(*arguments)
    assert end.value.code == 2
    assert arguments[1] in capsys.readouterr().err
