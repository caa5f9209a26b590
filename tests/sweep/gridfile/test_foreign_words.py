"""Keys and values of other tools: each is answered with what it means here, or with nothing."""

import ast
import importlib.util
from pathlib import Path

import pytest

from sweep.gridfile import foreign, foreign_words
from sweep.gridfile.keys.resources import TrialResources
from sweep.gridfile.keys.schema import GRID_KEYS, STAGE_KEYS
from sweep.gridfile.load import GridError
from trainers.specs.evaluation import EvaluateSpec
from trainers.specs.kinds import KINDS

TRL = {"sft": ("sft",), "dpo": ("dpo",), "reward": ("reward",), "rlvr": ("grpo", "rloo")}
"""Configs of each kind: TRL's trainer/NAME_config.py, on base_config.py and TrainingArguments."""

REVIEWED = {
    *foreign_words.OURS, *foreign_words.OURS_IN_RLVR, *foreign_words.ADAPTER,
    *foreign_words.IN_4_BITS,
}  # fmt: skip


def answer(kind: str, key: str) -> str:
    return foreign.hint(key, [*KINDS[kind].model_fields, *STAGE_KEYS])


def declared(library: str, modules: list[str]) -> set[str]:
    """Fields of the classes of a library's modules, which are not imported: that takes seconds."""
    spec = importlib.util.find_spec(library)
    assert spec is not None and spec.origin is not None
    trees = [ast.parse((Path(spec.origin).parent / name).read_text()) for name in modules]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    members = [node for one in classes for node in one.body if isinstance(node, ast.AnnAssign)]
    return {node.target.id for node in members if isinstance(node.target, ast.Name)}


def test_every_key_of_another_tool_leads_to_one_of_ours():
    ours = {*GRID_KEYS, *STAGE_KEYS, *EvaluateSpec.model_fields, *TrialResources.model_fields}
    ours |= {field for spec in KINDS.values() for field in spec.model_fields} | {"max_concurrent"}
    translated = [*foreign_words.OURS.values(), *foreign_words.OURS_IN_RLVR.values()]
    assert {foreign._first_word(name) for name in translated} <= ours


@pytest.mark.parametrize("kind", KINDS)
def test_key_of_trl_is_taken_for_no_other_key_by_its_look(kind):
    trl = [f"trainer/{name}_config.py" for name in ("base", *TRL[kind])]
    fields = declared("transformers", ["training_args.py"]) | declared("trl", trl)
    assert {"learning_rate", "auto_find_batch_size", "run_name", "disable_tqdm"} < fields
    asked = fields - {*KINDS[kind].model_fields, *STAGE_KEYS} - REVIEWED
    answers = {key: answer(kind, key) for key in asked}
    assert {key: said for key, said in answers.items() if "did you mean" in said} == {}


@pytest.mark.parametrize(
    ("kind", "keys", "said"),
    [
        ("rlvr", "epsilon", "no ratio is clipped; AdamW's is adam_epsilon"),
        ("rlvr", "epsilon_low clip_epsilon clip_ratio delta num_ppo_epochs", "no ratio is clipped"),
        ("rlvr", "num_iterations steps_per_generation ppo_epochs", "trained on once"),
        ("rlvr", "beta1 betas", "`adam_beta1`"),
        ("dpo", "beta2", "`adam_beta2`"),
        ("dpo", "dpo_beta init_kl_coef", "did you mean `beta`?"),
        ("sft", "beta", "none of the"),
        ("sft", "lr_rate", "did you mean `learning_rate`?"),
        ("sft", "warm_up", "did you mean `warmup_ratio` or warmup_steps"),
        ("dpo", "max_prompt_length", "not supported: `max_length` is of the prompt and the answer"),
        ("rlvr", "max_prompt_length", "did you mean `max_length`, above which"),
        ("rlvr", "loss_type", "did you mean `algorithm`"),
        ("dpo", "loss_type", "did you mean `loss`?"),
        ("dpo", "label_smoothing", "not smoothed"),
        ("dpo", "f_divergence_type", "dpo_norm or sigmoid"),
        ("dpo", "sync_ref_model", "the reference stays"),
        ("reward", "center_rewards_coefficient", "not centered"),
        ("rlvr", "top_p top_k", "drawn at `temperature`"),
        ("rlvr", "scale_rewards whiten_rewards", "`algorithm` decides"),
        ("rlvr", "missing_eos_penalty non_stop_penalty", "cut off"),
        ("rlvr", "num_samples_per_prompt_rollout rloo_k", "`group_size`"),
        ("rlvr", "num_unique_prompts_rollout", "prompts x group_size"),
        ("sft", "stop_token eos_token", "the model's tokenizer"),
        ("sft", "ema_decay weight_averaging", "not averaged"),
        ("sft", "decay_steps", "`decay_ratio`, a share of the steps"),
        ("sft", "shuffle", "`seed` decides"),
        ("sft", "loss_reduction", "`loss`, token_mean"),
        ("sft", "min_lr lr_scheduler_kwargs", "falls to zero"),
        ("sft", "dataloader_drop_last", "what is left"),
        ("sft", "packing", "wherever the model's attention allows it"),
        ("sft", "lern_rate", "did you mean `learning_rate`?"),
    ],
)  # fmt: skip
def test_key_is_answered_with_what_it_means(kind, keys, said):
    for key in keys.split():
        assert said in answer(kind, key)
        assert len(answer(kind, key)) < 120


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("schedule: constant_with_warmup", "did you mean `constant`, beside warmup_ratio"),
        ("schedule: wsd", "did you mean `warmup_stable_decay`?"),
        ("optimizer: paged_adamw_8bit", "did you mean `adamw_8bit`?"),
        ("dtype: bf16", "did you mean `bfloat16`?"),
        ("loss: sigmoid_norm", "or 'example_mean'"),
    ],
)
@pytest.mark.parametrize("axis", [False, True])
def test_value_of_another_tool_is_answered_in_ours(setting, said, axis, load, small):
    key, value = setting.split(": ")
    written = f"    steps: 3\n    {setting}"
    if axis:
        written = f"    steps: 3\n    arms: [{{name: a, grid: {{{key}: [{value}]}}}}]"
    with pytest.raises(GridError) as caught:
        load(small.replace("    steps: 3", written))
    assert said in str(caught.value)
    assert ("did you mean" in str(caught.value)) == ("did you mean" in said)
