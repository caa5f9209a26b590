"""The reward on the held-out prompts of an RLVR stage, as a benchmark with an error over them."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset

from trainers.data.forms.rlvr_prompts import Prompt, read_prompts
from trainers.evaluate.scores import Evaluation, summarise
from trainers.inference import generation
from trainers.inference.decoder import Decoder, Unservable
from trainers.inference.stopping import Stop
from trainers.inference.token_budget import Budget
from trainers.models import load
from trainers.ops import memory
from trainers.rewards import graders, own_function
from trainers.specs.rlvr import HELDOUT_REWARD


def score(
    loaded: load.Loaded,
    heldout: Dataset,
    max_new_tokens: int,
    dtype: str,
    reward: str | None = None,
) -> Evaluation:
    """Mean verified reward of the most probable answers; `reward` as in `RlvrSpec.reward`.

    Raises:
        ValueError: there is no held-out prompt, or a reward function of the user's fails or gives
            no answer a reward.
    """
    if len(heldout) == 0:
        raise ValueError("no prompt is held out; set `heldout` of the stage")
    columns: Any = heldout.select_columns(["asked", "input_ids"])
    asked = read_prompts(list(columns))
    said = answers(loaded, [list(prompt.tokens) for prompt in asked], max_new_tokens, dtype)
    texts = loaded.tokenizer.batch_decode(said, skip_special_tokens=True)
    values = np.array(earned(texts, said, asked, reward))
    if np.isnan(values).all():
        raise ValueError(f"reward {reward}: it gave none of the {len(values)} held-out answers one")
    return summarise(
        {"reward": float(np.nanmean(values))},
        {"reward": values},
        list(heldout["item"]),
        primary="reward",
        lower_is_better=(),
        settings={"benchmark": HELDOUT_REWARD, "max_new_tokens": max_new_tokens},
    )


def earned(
    texts: list[str], tokens: list[list[int]], asked: list[Prompt], reward: str | None
) -> list[float]:
    """What the answer to each prompt earns; nan where a function of the user's gives none."""
    if reward is not None and own_function.is_own(reward):
        said = [[{"role": "assistant", "content": text}] for text in texts]
        prompts = [prompt.messages for prompt in asked]
        columns = [prompt.columns for prompt in asked]
        return own_function.rewards(reward, prompts, said, tokens, columns)
    return [
        graders.reward(text, prompt.dataset, prompt.ground_truth)
        for text, prompt in zip(texts, asked, strict=True)
    ]


def answers(
    loaded: load.Loaded, prompts: list[list[int]], max_new_tokens: int, dtype: str
) -> list[list[int]]:
    """Their tokens: greedy, with continuous batching where the model's architecture is served."""
    model, tokenizer = loaded
    if load.bfloat16(dtype) and model.dtype != torch.bfloat16:
        from trainers.inference.harness_model import in_bfloat16

        model = memory.with_room(
            "copying the model in bfloat16 for scoring", lambda: in_bfloat16(loaded.model)
        )
    ends = Stop(model, tokenizer, []).ends
    try:
        decoder = Decoder(model)
    except Unservable:
        return [_alone(model, prompt, max_new_tokens) for prompt in prompts]
    with decoder.attached():
        return generation.generate(
            decoder,
            prompts,
            max_new_tokens,
            lambda said: said[-1] in ends,
            Budget(decoder, max(map(len, prompts)) + max_new_tokens),
            generation.Tally(),
        )


def _alone(model: Any, prompt: list[int], max_new_tokens: int) -> list[int]:
    ids = torch.tensor([prompt], device=model.device)
    said = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    return said[0, len(prompt) :].tolist()
