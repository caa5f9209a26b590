"""The sweep as people write it from three documentations: Ray Tune, TRL and lm-eval.

    python tests/bench/stock_sweep.py PLAN.json       (bench_sweep.py writes the plan)

A function trainable fine-tunes one cell with SFTTrainer and scores it with
`lm_eval.simple_evaluate` and its stock `hf` model. Nothing of this project is imported. With
`tuned` in the plan: workers are reused (`reuse_actors`), micro-batches are small and accumulated,
the evaluation batch is the best fixed one, and lm-eval's task index is made once per worker.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

_task_manager = None


def fine_tune(plan: dict[str, Any], stage: dict[str, Any], model: str, cell: dict[str, Any]):
    """The trained SFTTrainer of one cell."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [json.loads(line) for line in Path(stage["rows"]).read_text().splitlines()]
    per_device = min(plan["per_device_batch_size"] or cell["batch_size"], cell["batch_size"])
    arguments: dict[str, Any] = {}
    if plan["tuned"]:
        arguments = {"gradient_checkpointing": False, "save_strategy": "no"}
    if stage["steps"] is not None:
        arguments["max_steps"] = stage["steps"]
    trainer = SFTTrainer(
        model=model,
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            output_dir=cell["folder"],
            learning_rate=cell["learning_rate"],
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=cell["batch_size"] // per_device,
            num_train_epochs=1,
            warmup_steps=stage["warmup_ratio"],
            max_length=stage["max_length"],
            adam_beta2=stage["adam_beta2"],
            bf16=False,  # the precision of both sides; TRL's default would be emulated on a CPU
            use_cpu=not _cuda(),
            report_to="none",
            **arguments,
        ),
    )
    trainer.train()
    return trainer


def evaluate(plan: dict[str, Any], model, tokenizer=None) -> dict[str, float]:
    """{task: value of its first metric} of a model, or of the folder of one."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    global _task_manager
    if plan["tuned"] and _task_manager is None:
        from lm_eval.tasks import TaskManager

        _task_manager = TaskManager(include_defaults=False)
    results = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=plan["eval_batch_size"],
            device="cuda" if _cuda() else "cpu",
        ),
        tasks=plan["tasks"],
        task_manager=_task_manager,
        samples=plan["samples"],
        apply_chat_template=True,
        fewshot_as_multiturn=True,
    )
    return {task: results["results"][task][metric] for task, metric in plan["metrics"].items()}


def trial(config: dict[str, Any], plan: dict[str, Any]) -> None:
    from ray import tune

    begun = time.monotonic()
    cell = {**config, "folder": str(Path("trainer").resolve())}
    trainer = fine_tune(plan, plan["sft"], plan["model"], cell)
    trained = time.monotonic()
    trainer.model.eval()
    scores = evaluate(plan, trainer.model, trainer.processing_class)
    tune.report(
        {
            "scores": scores,
            "train_seconds": trained - begun,
            "eval_seconds": time.monotonic() - trained,
        }
    )


def main(plan: dict[str, Any]) -> None:
    from ray import tune

    evaluate(plan, plan["model"])  # the row that says what training has changed
    if plan["pretrain"] is not None:
        stage = plan["pretrain"]
        cell = {**stage["cell"], "folder": f"{plan['out']}/pretrain"}
        trainer = fine_tune(plan, stage, plan["model"], cell)
        plan["model"] = f"{plan['out']}/base"
        trainer.save_model(plan["model"])
        evaluate(plan, plan["model"])
    axes = {
        "learning_rate": tune.grid_search(plan["learning_rates"]),
        "batch_size": tune.grid_search(plan["batch_sizes"]),
    }
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, plan=plan), {"cpu": 1, "gpu": _gpus()}),
        param_space=axes,
        tune_config=tune.TuneConfig(reuse_actors=plan["tuned"]),
        run_config=tune.RunConfig(storage_path=plan["out"], name="tune", verbose=0),
    )
    results = tuner.fit()
    assert not results.errors, results.errors[0]
    wanted = ("scores", "train_seconds", "eval_seconds")
    cells = [
        {**result.config, **{name: result.metrics[name] for name in wanted}} for result in results
    ]
    Path(plan["out"], "cells.json").write_text(json.dumps(cells))


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpus() -> float:
    return 0.5 if _cuda() else 0.0


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
