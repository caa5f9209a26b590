"""The same sweep with its settings in the runs' names: one table comes out, or a question."""

import pandas as pd
import pytest

from analysis.tables import load


def same(sweep, frame, times: int = 1) -> None:
    columns = ["learning_rate", "batch_size"]
    frame = frame.sort_values(columns)
    assert list(frame.learning_rate) == list(sweep.learning_rate)
    assert list(frame.batch_size) == list(sweep.batch_size * times)
    assert list(frame.value) == list(sweep["eval/loss"])
    assert not frame.higher_is_better.any() and (frame.status == "ok").all()


def with_names(sweep: pd.DataFrame, form: str) -> pd.DataFrame:
    names = [form.format(*cell) for cell in zip(sweep.learning_rate, sweep.batch_size, strict=True)]
    return sweep[["eval/loss"]].assign(run_name=names)


@pytest.mark.parametrize("name", ["sft_lr{0:g}_bs{1}_seed0", "LR={0},batch_size={1}/seed-0",
                                  "smol-lr-{0:.1e}-gbs{1}-seed_0"])  # fmt: skip
def test_settings_in_the_names_of_runs(sweep, read, name):
    names = [name.format(*cell) for cell in zip(sweep.learning_rate, sweep.batch_size, strict=True)]
    bare = sweep[["eval/loss"]].assign(run_name=names)
    table = read(bare)
    same(sweep, table.frame)
    assert table.notes[0] == "learning_rate, batch_size, seed from the names in run_name"
    columns = sweep.assign(run_name=[one.replace("bs", "bs1") for one in names])
    same(sweep, read(columns).frame)
    with pytest.raises(load.ResultsError, match="no column for the learning rate"):
        read(bare.assign(run_name=["baseline", *names[1:]]))


@pytest.mark.parametrize("word", ["step", "checkpoint-", "ckpt", "global_step_"])
def test_checkpoints_in_the_names_are_no_seeds(sweep, read, word):
    parts = [
        sweep[["eval/loss"]].assign(
            run_name=[f"lr{a}_bs{b}_{word}{step}" for a, b, _ in sweep.itertuples(index=False)],
            **{"eval/loss": sweep["eval/loss"] + worse},
        )
        for step, worse in ((200, 0.0), (90, 1.0))
    ]
    column = f"config/{word.strip('-_')}"
    with pytest.raises(load.ResultsError, match=f"--last {column};"):
        read(pd.concat(parts))
    same(sweep, read(pd.concat(parts), last=column).frame)
    parts[0]["run_name"] = parts[0].run_name.str.removesuffix(f"_{word}200")
    with pytest.raises(load.ResultsError, match="not seeds") as refused:
        read(pd.concat(parts))
    assert "--last" not in str(refused.value), "the finished model, which names no step, would go"
    same(sweep, read(pd.concat(parts), where={column: ""}).frame)


@pytest.mark.parametrize("form", ["sft_lr{0:g}_bs{1}_ga8_seed0", "lr{0:g}-bs{1}-gas8",
                                  "lr{0:g}_batch_size{1}_grad_accum8"])  # fmt: skip
def test_a_batch_size_beside_accumulation_is_asked_for(sweep, read, form):
    bare = with_names(sweep, form)
    with pytest.raises(load.ResultsError, match="goes up to 8"):
        read(bare)
    same(sweep, read(bare, columns={"batch_size": "batch_size"}).frame)
    product = {"per_device_batch_size": "batch_size", "devices": "2"}
    same(sweep, read(bare, columns=product).frame, times=16)
    bare.loc[1:, "run_name"] = bare.run_name[1:].str.replace(r"[-_](ga|grad).*8", "", regex=True)
    with pytest.raises(load.ResultsError, match="is batch_size the effective batch size"):
        read(bare)


@pytest.mark.parametrize("form", ["lr{0:g}_gbs{1}_ga8", "lr{0:g}_global_batch_size={1}-ga8",
                                  "lr{0:g}_mbs2_bs{1}_ga8", "lr{0:g}_bs{1}_ga1",
                                  "lr{0:g}_bs{1}_acc0.81", "lr{0:g}_bs{1}_x3ga8k",
                                  "lr{0:g}_bs{1}_gpus8"])  # fmt: skip
def test_an_effective_batch_size_is_taken_as_it_is(sweep, read, form):
    same(sweep, read(with_names(sweep, form)).frame)


@pytest.mark.parametrize("size", ["per_device_bs{1}", "micro_batch_size={1}", "mbs{1}",
                                  "per_device_train_batch_size{1}"])  # fmt: skip
def test_a_batch_size_of_one_device_is_multiplied(sweep, read, size):
    table = read(with_names(sweep, "lr{0:g}-" + size + "-gas4-gpus8"))
    same(sweep, table.frame, times=32)
    assert "batch size: per_device_batch_size x gradient_accumulation_steps x num_gpus" in (
        table.notes
    )
    with pytest.raises(load.ResultsError, match="--columns accumulation=1,devices=1"):
        read(with_names(sweep, "lr{0:g}-" + size))


def test_a_batch_size_that_is_written_as_a_product_is_refused(sweep, read):
    with pytest.raises(load.ResultsError, match=r"row 1: run_name: 'lr1e-05_bs8x4' may say"):
        read(with_names(sweep, "lr{0:g}_bs{1}x4"))
