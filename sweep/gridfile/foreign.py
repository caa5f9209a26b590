"""Keys and numbers as other tools write them -> what they are called here."""

import difflib
import re
from collections.abc import Sequence

FEW = 12
"""Allowed keys that fit into a message."""

OURS = {
    "lr": "learning_rate",
    "init_lr": "learning_rate",
    "peak_lr": "learning_rate",
    "bs": "batch_size, examples per optimizer step whatever the hardware",
    "bsz": "batch_size, examples per optimizer step whatever the hardware",
    "train_batch_size": "batch_size, examples per optimizer step whatever the hardware",
    "global_batch_size": "batch_size",
    "effective_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size, examples per optimizer step whatever the hardware",
    "per_device_batch_size": "batch_size, examples per optimizer step whatever the hardware",
    "gradient_accumulation_steps": "batch_size, which is split to fit the memory by itself",
    "gradient_accumulation": "batch_size, which is split to fit the memory by itself",
    "micro_batch_size": "tokens_per_micro_batch, found by itself when left out",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_steps": "steps",
    "num_steps": "steps",
    "train_steps": "steps",
    "lr_scheduler_type": "schedule",
    "lr_scheduler": "schedule",
    "scheduler": "schedule",
    "num_warmup_steps": "warmup_steps",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "model_max_length": "max_length",
    "seq_length": "max_length",
    "sequence_length": "max_length",
    "cutoff_len": "max_length",
    "max_prompt_length": "max_length",
    "max_completion_length": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "num_generations": "group_size",
    "kl_coef": "beta",
    "loss_type": "loss",
    "bf16": "dtype: bfloat16",
    "fp16": "dtype: bfloat16 or float32",
    "torch_dtype": "dtype",
    "precision": "dtype",
    "adam_eps": "adam_epsilon",
    "optimizer_eps": "adam_epsilon",
    "gradient_clipping": "max_grad_norm",
    "grad_clip": "max_grad_norm",
    "clip_grad_norm": "max_grad_norm",
    "wd": "weight_decay",
    "optim": "optimizer",
    "optimizer_type": "optimizer",
    "momentum": "sgd_momentum",
    "fsdp": "resources: {gpus_per_trial: 2, sharding: full}",
    "fsdp_config": "resources: {gpus_per_trial: 2, sharding: full}",
    "deepspeed": "resources: {gpus_per_trial: 2, sharding: full}",
    "use_peft": "adapter, as adapter: {rank: 16}",
    "peft_config": "adapter, as adapter: {rank: 16}",
    "peft": "adapter, as adapter: {rank: 16}",
    "lora": "adapter, as adapter: {rank: 16}",
    "assistant_only_loss": "loss_on: assistant",
    "completion_only_loss": "loss_on: assistant",
    "train_on_inputs": "loss_on: all",
    "train_dataset": "data",
    "dataset": "data",
    "datasets": "data",
    "dataset_name": "data",
    "dataset_mixer": "data, a list with a weight for each",
    "train_file": "data",
    "dataset_config": "data: {name: ..., config: ...}",
    "max_train_samples": "data: {name: ..., examples: ...}",
    "eval_dataset": "heldout, examples that are kept out of the data",
    "val_size": "heldout, a number of examples",
    "test_size": "heldout, a number of examples",
    "validation_split": "heldout, a number of examples",
    "save_steps": "save_every_steps",
    "save_total_limit": "keep: all, none or best",
    "load_best_model_at_end": "keep: best",
    "random_seed": "seed",
    "seeds": "seed, an axis of `grid`",
    "num_seeds": "seed, an axis of `grid`: seed: [0, 1, 2]",
    "model_name": "model",
    "model_name_or_path": "model",
    "base_model": "model",
    "pretrained_model": "model",
    "run_name": "name",
    "tasks": "benchmarks",
    "num_samples": "limit",
    "max_samples": "limit",
    "report_to": "tracking of the grid, as tracking: {wandb: {project: ...}}",
    "wandb": "tracking of the grid, as tracking: {wandb: {project: ...}}",
    "parameters": "grid of a stage: a list of values for each key",
    "param_space": "grid of a stage: a list of values for each key",
    "search_space": "grid of a stage: a list of values for each key",
    "num_gpus": "gpus_per_trial",
    "gpu": "gpus_per_trial",
    "cpu": "cpus_per_trial",
    "num_cpus": "cpus_per_trial",
    "num_nodes": "nodes_per_trial",
    "nnodes": "nodes_per_trial",
    "max_concurrent_trials": "max_concurrent",
}
"""Names of TRL, the HF Trainer, W&B, Ray and others -> ours, with what has to be known."""

OURS_OFF = {
    "assistant_only_loss": "loss_on: all",
    "completion_only_loss": "loss_on: all",
    "train_on_inputs": "loss_on: assistant",
    "bf16": "dtype: float32",
}
"""Those of them that mean something else of ours where they are false."""

NOT_NEEDED = {
    "packing": "rows are always packed without padding, each attending to itself alone",
    "padding_free": "rows are always packed without padding, each attending to itself alone",
    "group_by_length": "the examples of a batch are sorted by length anyway",
    "gradient_checkpointing": "there is none; micro-batches fit the memory, down to one example",
    "remove_unused_columns": "columns that are not read are ignored; leave it out",
    "logging_steps": "every step is logged; leave it out",
    "eval_steps": "models are scored when they are trained; leave it out",
    "eval_strategy": "models are scored when they are trained; leave it out",
    "evaluation_strategy": "models are scored when they are trained; leave it out",
    "save_strategy": "checkpoints are saved by save_every_minutes or save_every_steps",
    "output_dir": "the run folder is named by --runs and the grid's name",
    "push_to_hub": "`python -m sweep.export` writes a folder to upload",
    "method": "every cell of `grid` runs; `search` of the grid asks for some of them",
    "metric": "`search: {method: optuna, objective: BENCHMARK}` names what is searched for",
}
"""Keys that have no counterpart, since what they ask for is done otherwise."""

NOT_THERE = {"neftune_noise_alpha": "there is no NEFTune noise"}
"""Keys of what is not done here."""

ADAPTER = {
    "r": "rank",
    "lora_r": "rank",
    "lora_rank": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "lora_target": "targets",
    "lora_target_modules": "targets",
    "use_rslora": "rslora",
    "use_dora": "dora",
}
"""Names of PEFT and others for the keys of `adapter`."""

IN_4_BITS = {
    "load_in_4bit", "load_in_8bit", "bits", "base_bits", "quant_type", "quantization",
    "quantization_bit", "quantization_config", "bnb_config", "use_bnb", "qlora",
}  # fmt: skip
"""Keys of QLoRA, beside those of bitsandbytes; 8 bits are not done here."""


def hint(key: str, allowed: Sequence[str], off: bool = False) -> str:
    """What an unknown key may mean, in one line; `off` where its value is false."""
    lower = key.lower().replace("-", "_")
    in_4_bits = lower in IN_4_BITS or lower.startswith("bnb_")
    if off and (lower in OURS or in_4_bits) and lower not in OURS_OFF:
        return "leave it out, which is the same as false"
    ours = OURS_OFF.get(lower) if off else OURS.get(lower)
    if ours is not None and _first_word(ours) in {*allowed, "tracking", "grid"}:
        return f"did you mean {_quoted(ours)}?"
    part = ADAPTER.get(lower)
    if part in allowed:
        return f"did you mean `{part}`?"
    if part is not None and "adapter" in allowed:
        return f"did you mean `adapter: {{{part}: ...}}`?"
    if part is not None and f"adapter.{part}" in allowed:
        return f"did you mean `adapter.{part}`?"
    if in_4_bits:
        return _in_4_bits(allowed)
    if lower in NOT_NEEDED:
        return f"not needed: {NOT_NEEDED[lower]}"
    if lower in NOT_THERE:
        return f"not supported: {NOT_THERE[lower]}"
    alike = [name for name in allowed if name.lower() == lower]
    near = alike or difflib.get_close_matches(lower, allowed, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    if len(allowed) <= FEW:
        return f"use one of {', '.join(sorted(allowed))}"
    return f"none of the {len(allowed)} keys here is like it; grids/grid.schema.json lists them"


def _in_4_bits(allowed: Sequence[str]) -> str:
    if "base_weights" in allowed:
        return "did you mean `base_weights: nf4`?"
    if "adapter.base_weights" in allowed:
        return "did you mean `adapter.base_weights: [nf4]`?"
    of_stage = "" if "adapter" in allowed else " of a stage"
    return f"did you mean `adapter: {{base_weights: nf4}}`{of_stage}?"


def _first_word(ours: str) -> str:
    return re.split(r"[ ,:]", ours)[0]


def _quoted(ours: str) -> str:
    word = _first_word(ours)
    return f"`{word}`{ours[len(word) :]}"


POWER = re.compile(r"(?:([0-9.]+)\*)?10(?:\*\*|\^)\(?(-?[0-9]+)\)?")


def number(text: str) -> str | None:
    """A number that stands in quotes, or is written as a power of ten, as YAML has it."""
    plain = text.strip().replace(" ", "").replace(",", "")
    if power := POWER.fullmatch(plain):
        return f"{float(power[1] or 1):g}e{power[2]}"
    try:
        float(plain)
    except ValueError:
        return None
    return plain
