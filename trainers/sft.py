"""Supervised fine-tuning: a thin reading of TRL's SFTTrainer.

What TRL does not do is here: the effective batch by the number of examples, divergence as a
result, and a
record of every optimizer step.
"""

import json
import math
import time
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from trainers import batch, models
from trainers.data import Prepared
from trainers.spec import OutOfTime, SftSpec, StageResult

SMOOTHING = 0.9
"""Weight of the past in the exponential mean of the loss, corrected for its start."""


def train(
    spec: SftSpec,
    loaded: models.Loaded,
    data: Prepared,
    folder: Path,
    deadline: float = math.inf,
) -> StageResult:
    """Train `loaded.model` in place; write a line per optimizer step to `folder`/metrics.jsonl.

    `figures` has steps, examples, tokens (all that passed through the model), epochs, warmup_steps,
    adam_beta2, learning_rate_sum, train_seconds, model_parameters and the final and smoothed loss
    in nats per
    token that counts.

    Raises:
        OutOfTime: the monotonic clock has passed `deadline`.
    """
    steps = spec.optimizer_steps(len(data.train))
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        monitor = Monitor(spec, file, deadline)
        started = time.monotonic()
        try:
            trainer = SFTTrainer(
                model=loaded.model,
                args=_arguments(spec, steps, folder),
                train_dataset=data.train.select_columns(["input_ids", "labels"]),
                processing_class=loaded.tokenizer,
                data_collator=DataCollatorForLanguageModeling(
                    cast(int, loaded.tokenizer.pad_token_id)
                ),
                callbacks=[monitor],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        finally:
            _forget_process_state()
    examples = spec.examples_after(monitor.steps, len(data.train))
    figures = {
        "steps": monitor.steps,
        "examples": examples,
        "tokens": monitor.tokens,
        "epochs": examples / len(data.train),
        "warmup_steps": spec.warmup(steps),
        "adam_beta2": spec.adam_beta2,
        "learning_rate_sum": monitor.learning_rate_sum,
        "train_seconds": time.monotonic() - started,
        "model_parameters": loaded.model.num_parameters(),
        "first_loss": _finite(monitor.first_loss),
        "final_loss": _finite(monitor.loss),
        "smoothed_loss": _finite(monitor.smoothed_loss),
        "dtype": "bfloat16" if models.bfloat16(spec.dtype) else "float32",
        "device": str(models.device()),
        **{f"data_{name}": number for name, number in data.counts.items()},
    }
    return StageResult("diverged" if monitor.reason else "ok", monitor.reason, figures)


def _arguments(spec: SftSpec, steps: int, folder: Path) -> SFTConfig:
    per_device, accumulation = batch.split(spec.batch_size, spec.per_device_batch_size)
    bfloat16 = models.bfloat16(spec.dtype)
    schedule = "constant_with_warmup" if spec.schedule == "constant" else spec.schedule
    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        max_steps=steps,
        learning_rate=spec.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=spec.warmup(steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=spec.max_grad_norm,
        adam_beta1=spec.adam_beta1,
        adam_beta2=spec.adam_beta2,
        seed=spec.seed,
        data_seed=spec.seed,
        bf16=bfloat16,
        use_cpu=models.device().type == "cpu",
        activation_checkpointing=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        max_length=None,  # truncated while preparing
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,  # the default hides a loss that is not finite
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _forget_process_state() -> None:
    """Clear accelerate's process-wide singletons, or the next trial inherits this one's
    precision."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _finite(value: float) -> float | None:
    """JSON has no nan; a record's reason says what happened."""
    return value if math.isfinite(value) else None


class Monitor(TrainerCallback):
    """Records every optimizer step and stops at the first sign of divergence."""

    def __init__(self, spec: SftSpec, file, deadline: float):
        self.spec = spec
        self.file = file
        self.deadline = deadline
        self.started = time.monotonic()
        self.steps = 0
        self.tokens = 0
        self.learning_rate_sum = 0.0
        self.loss = math.nan
        self.first_loss = math.nan
        self.smoothed_loss = math.nan
        self.reason = ""
        self._mean = 0.0

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **_):
        if logs is None or "loss" not in logs:
            return
        self.steps = state.global_step
        self.loss = float(logs["loss"])
        self.tokens = int(logs["num_tokens"])
        self.learning_rate_sum += logs["learning_rate"]
        self._smooth()
        record = {
            "step": self.steps, "loss": _finite(self.loss), "smoothed_loss":
            _finite(self.smoothed_loss),
            "learning_rate": logs["learning_rate"], "grad_norm": _finite(float(logs["grad_norm"])),
            "tokens": self.tokens, "seconds": round(time.monotonic() - self.started, 3),
        }  # fmt: skip
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        self.reason = self._diverged(float(logs["grad_norm"]))
        if self.reason:
            control.should_training_stop = True
        elif time.monotonic() > self.deadline:
            raise OutOfTime(f"over the time limit at step {self.steps} of {state.max_steps}")

    def _smooth(self) -> None:
        if self.steps == 1:
            self.first_loss = self.loss
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * self.loss
        self.smoothed_loss = self._mean / (1 - SMOOTHING**self.steps)

    def _diverged(self, grad_norm: float) -> str:
        if not math.isfinite(self.loss):
            return f"loss {self.loss} at step {self.steps}"
        if not math.isfinite(grad_norm):
            return f"gradient norm {grad_norm} at step {self.steps}"
        if self.smoothed_loss > self.spec.divergence_factor * self.first_loss:
            return (
                f"smoothed loss {self.smoothed_loss:.3g} at step {self.steps}, more than "
                f"{self.spec.divergence_factor:g} times its start {self.first_loss:.3g}"
            )
        return ""
