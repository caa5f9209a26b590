"""Answers to held-out prompts, where memory runs out while the model is copied."""

import torch

from trainers.evaluate import heldout_reward
from trainers.inference import harness_model
from trainers.models import load


def test_copy_that_finds_no_memory_is_made_again_with_frequencies_as_they_were(monkeypatch):
    loaded = load.load("tiny")
    prompt = loaded.tokenizer("What is two and two?")["input_ids"]
    copied, copies = harness_model.in_bfloat16, []

    def full_at_first(model):
        copies.append(copied(model))
        if len(copies) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return copies[-1]

    monkeypatch.setattr(harness_model, "in_bfloat16", full_at_first)
    (answer,) = heldout_reward.answers(loaded, [prompt], 5, "bfloat16")
    assert answer and len(copies) == 2
    assert {weight.dtype for weight in copies[1].parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in copies[1].buffers()} == {torch.float32}
