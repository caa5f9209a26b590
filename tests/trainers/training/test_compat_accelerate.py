"""accelerate's singletons are those that are reset, and are made anew after it."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType, gather

from trainers.training import compat_accelerate


def test_next_trial_has_its_own_precision():
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"
    compat_accelerate.forget_process_state()
    for state in (AcceleratorState, GradientState, PartialState):
        assert not state._shared_state, state
    assert Accelerator(cpu=True, mixed_precision="no").mixed_precision == "no"
    compat_accelerate.forget_process_state()


def test_prepared_model_is_let_go():
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Linear(1, 1)
    accelerator.prepare(model, torch.optim.SGD(model.parameters()))
    compat_accelerate.forget_prepared(accelerator)
    assert not accelerator._models
    assert not accelerator._optimizers
    compat_accelerate.forget_process_state()


def test_process_may_be_told_that_it_is_alone(monkeypatch):
    accelerator = Accelerator(cpu=True)
    several = {"distributed_type": DistributedType.MULTI_CPU, "num_processes": 2}
    for state in (PartialState._shared_state, AcceleratorState._shared_state):
        monkeypatch.setitem(state, "process_index", 1)
        for key, value in several.items():
            monkeypatch.setitem(state, key, value)
    with compat_accelerate.alone():
        assert (accelerator.num_processes, accelerator.process_index) == (1, 0)
        here = torch.arange(3)
        for gathered in (gather(here), accelerator.gather(here), accelerator.reduce(here, "sum")):
            assert torch.equal(gathered, here)
    assert (accelerator.num_processes, accelerator.process_index) == (2, 1)
    with pytest.raises(ValueError, match="process group"):
        gather(here)
    monkeypatch.undo()
    compat_accelerate.forget_process_state()
