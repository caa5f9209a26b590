"""A loaded model as lm-eval wants it, for `harness.score`."""

import tempfile
from functools import partial
from typing import Any

from trainers.evaluate import divide_requests
from trainers.models import load
from trainers.specs.evaluation import EvaluateSpec
from trainers.tasks.tasks import FEWSHOT_SEED

COPYING = "copying the model in bfloat16 for scoring (evaluate.dtype: float32 makes no copy)"

VLLM_SHARE = 0.9
"""Of the GPU's free memory; vLLM's own default is of all of it, which it refuses to start beside a
model."""


def open_model(loaded: load.Loaded, spec: EvaluateSpec):
    """The model as lm-eval wants it (`trainers/inference/harness_model.py`, or lm-eval's vLLM
    class); the loaded one is left as it is."""
    if spec.backend == "vllm":
        return _vllm_model(loaded, spec)
    lm = open_whole(loaded, spec)
    return divide_requests.divide(lm, loaded, partial(open_whole, spec=spec))


def open_whole(loaded: load.Loaded, spec: EvaluateSpec):
    """The model as lm-eval wants it, in this process alone."""
    import torch

    from trainers.inference import harness_model
    from trainers.ops import memory

    model = loaded.model
    if load.bfloat16(spec.dtype) and model.dtype != torch.bfloat16:
        model = memory.with_room(COPYING, lambda: harness_model.in_bfloat16(loaded.model))
    return harness_model.open_lm(model, loaded.tokenizer, spec.items_per_batch)


def _vllm_model(loaded: load.Loaded, spec: EvaluateSpec):
    """lm-eval's vLLM class, which reads a folder: the model's, written for the time of reading."""
    from lm_eval.models.vllm_causallms import VLLM

    from trainers.ops import memory

    harness_model: Any = VLLM
    dtype = "bfloat16" if load.bfloat16(spec.dtype) else "float32"
    with tempfile.TemporaryDirectory() as folder:
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
        share = VLLM_SHARE * memory.free_share()  # beside the model itself, which is still there
        return harness_model(
            pretrained=folder, dtype=dtype, seed=FEWSHOT_SEED, gpu_memory_utilization=share
        )
