"""accelerate's singletons are those that are reset, and are made anew after it."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

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
