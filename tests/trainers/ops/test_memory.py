"""What a forward pass keeps, against what it is known to keep."""

import copy
import gc
import weakref

import pytest
import torch

from trainers.ops import memory, packed_attention


def test_bytes_of_a_token_do_not_hang_on_the_number_of_tokens(tiny, monkeypatch):
    with packed_attention.used(tiny.model) as packed:
        few = memory.bytes_per_token(tiny.model, packed, bfloat16=False)
        monkeypatch.setattr(memory, "SAMPLE", 2 * memory.SAMPLE)
        assert memory.bytes_per_token(tiny.model, packed, bfloat16=False) == pytest.approx(few)


def test_bytes_of_a_token_hold_what_every_layer_must_keep(tiny):
    """At least the inputs of its seven matrix products, and not many times that."""
    config = tiny.model.config
    layer = 4 * config.hidden_size + 3 * config.intermediate_size
    least = 4 * layer * config.num_hidden_layers
    with packed_attention.used(tiny.model) as packed:
        whole = memory.bytes_per_token(tiny.model, packed, bfloat16=False)
        half = memory.bytes_per_token(tiny.model, packed, bfloat16=True)
    assert least < whole < 5 * least
    assert half < whole


def test_weighing_a_model_lets_go_of_it(tiny):
    model = copy.deepcopy(tiny.model)
    weight = weakref.ref(next(model.parameters()))
    with packed_attention.used(model) as packed:
        memory.bytes_per_token(model, packed, bfloat16=True)
    del model
    gc.collect()
    assert weight() is None


def test_a_cpu_has_a_constant(tiny):
    assert tiny.model.device == torch.device("cpu")
    assert memory.tokens_per_micro_batch(tiny.model, True, False, 8) == memory.ON_CPU


class Tight:
    """Work that runs out of memory the first so many times."""

    def __init__(self, failures: int, error: Exception):
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


RAN_OUT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", RAN_OUT, ids=["GPU", "CPU", "Python"])
def test_what_does_not_fit_is_tried_once_more_with_emptied_caches(error, monkeypatch):
    emptied = []
    monkeypatch.setattr(memory, "release", lambda: emptied.append(True))
    work = Tight(1, error)
    assert memory.with_room("loading the model", work) == "done"
    assert (work.calls, emptied) == (2, [True])


@pytest.mark.parametrize("error", RAN_OUT, ids=["GPU", "CPU", "Python"])
def test_what_does_not_fit_twice_says_what_there_is_and_what_to_change(error):
    work = Tight(9, error)
    with pytest.raises(memory.NoRoom, match="out of memory in loading the model, twice") as failed:
        memory.with_room("loading the model", work)
    assert work.calls == 2
    assert "GB are free; run fewer trials at once (resources.max_concurrent" in str(failed.value)
    assert memory.out_of_memory(failed.value)


def test_a_gpu_says_how_much_the_trial_may_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 0.5)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30 * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 28 * 10**9)
    with pytest.raises(memory.NoRoom) as failed:
        memory.with_room("loading the model", Tight(2, RAN_OUT[0]))
    assert "may use 40.0 GB of the GPU's 80.0 GB and 12.0 GB of that are left" in str(failed.value)
    assert "raise resources.gpus_per_trial" in str(failed.value)


def test_the_room_of_a_gpu_without_a_number_is_that_of_the_current_one(monkeypatch):
    """torch.cuda.get_per_process_memory_fraction takes no `cuda`."""

    def fraction(device):
        assert device.index is not None, "Expected a torch.device with a specified index"
        return 0.5

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", fraction)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: device.index)
    assert memory.room_on(torch.device("cuda")) == 40 * 10**9 - 3


def test_other_errors_are_not_tried_again():
    work = Tight(1, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        memory.with_room("loading the model", work)
    assert work.calls == 1
