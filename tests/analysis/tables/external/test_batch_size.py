"""The effective batch size, or a question."""

import pytest

from analysis.tables import load

PER_DEVICE = "per_device_train_batch_size"


def test_per_device_batch_sizes_are_multiplied(sweep, read):
    frame = sweep.assign(**{PER_DEVICE: 2, "gradient_accumulation_steps": sweep.batch_size // 8})
    frame = frame.assign(num_gpus=4).drop(columns="batch_size")
    table = read(frame)
    assert set(table.frame.batch_size) == {8, 16, 32, 64}
    assert f"batch size: {PER_DEVICE} x gradient_accumulation_steps x num_gpus" in table.notes


def test_a_missing_factor_is_asked_for_and_may_be_a_number(sweep, read):
    frame = sweep.rename(columns={"batch_size": PER_DEVICE})
    with pytest.raises(load.ResultsError, match="--columns accumulation=1,devices=1"):
        read(frame)
    table = read(frame, columns={"accumulation": "2", "devices": "4"})
    assert set(table.frame.batch_size) == {64, 128, 256, 512}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"_n_gpu": 1}, "1 under DDP, too"),
        ({"config/_n_gpu": 1}, "1 under DDP, too"),
        ({"gpus": 8, "nodes": 2}, "those of one node, and nodes goes up to 2"),
        ({"config/num_gpus": 8, "config/num_nodes": 4}, "and config/num_nodes goes up to 4"),
    ],
)
def test_devices_that_may_not_be_all_of_them_are_asked_for(sweep, read, more, why):
    frame = sweep.rename(columns={"batch_size": PER_DEVICE}).assign(grad_accum=2, **more)
    with pytest.raises(load.ResultsError, match=why):
        read(frame)
    own = next(iter(more))
    for devices, times in ((own, more[own]), ("16", 16)):
        sizes = read(frame, columns={"devices": devices}).frame.batch_size
        assert sorted(set(sizes)) == [size * 2 * times for size in (8, 16, 32, 64)]


@pytest.mark.parametrize("more", [{"world_size": 8, "nodes": 2}, {"gpus": 8, "nodes": 1},
                                  {"_n_gpu": 8}, {"n_gpu": 8}])  # fmt: skip
def test_devices_that_are_all_of_them_are_taken(sweep, read, more):
    frame = sweep.rename(columns={"batch_size": PER_DEVICE}).assign(grad_accum=1, **more)
    assert sorted(set(read(frame).frame.batch_size)) == [64, 128, 256, 512]


@pytest.mark.parametrize("name", ["batch_size", "train_batch_size"])
def test_a_plain_batch_size_beside_accumulation_is_a_question(sweep, read, name):
    frame = sweep.rename(columns={"batch_size": name}).assign(gradient_accumulation_steps=4)
    with pytest.raises(load.ResultsError, match=f"is {name} the effective batch size"):
        read(frame)
    effective = read(frame, columns={"batch_size": name}).frame
    assert set(effective.batch_size) == {8, 16, 32, 64}
    product = read(frame, columns={"per_device_batch_size": name, "devices": "1"}).frame
    assert set(product.batch_size) == {32, 64, 128, 256}


def test_the_effective_one_is_taken_where_it_is_there(sweep, read):
    frame = sweep.assign(total_train_batch_size=sweep.batch_size * 4, train_batch_size=2)
    frame = frame.assign(gradient_accumulation_steps=4).drop(columns="batch_size")
    assert set(read(frame).frame.batch_size) == {32, 64, 128, 256}


def test_one_batch_size_and_none_are_read(sweep, read):
    one = sweep[sweep.batch_size == 16]
    assert set(read(one).frame.batch_size) == {16}
    table = read(one.drop(columns="batch_size"))
    assert table.frame.learning_rate.nunique() == 5
    assert any("no batch size in the table" in note for note in table.notes)
    assert table.frame.lr_bs_ratio.isna().all() and read(one).frame.lr_bs_ratio.notna().all()
    assert set(
        read(one.drop(columns="batch_size"), columns={"batch_size": "32"}).frame.batch_size
    ) == {32}


def test_learning_rate_0_is_the_model_before_training(sweep, read):
    sweep.loc[20] = [0.0, 0, 3.1]
    table = read(sweep)
    before = table.frame[table.frame.learning_rate.isna()]
    assert (before.value.item(), before.stage.item()) == (3.1, "base")
    assert table.frame.learning_rate.nunique() == 5
    assert any("the model before training" in note for note in table.notes)
