"""How models are scored: the key `evaluate` of a grid file."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainers.specs.fields import Count, Strict

OLD_ITEMS_PER_BATCH = "batch_size"
"""Earlier name of `evaluate.items_per_batch`, still read, and written where it is hashed."""


class EvaluateSpec(Strict):
    """How every model of the sweep is scored."""

    benchmarks: list[str]
    """Names from trainers/tasks/registry.py, names of lm-eval's tasks or groups, or paths of
    task files in YAML. `rewardbench` and `ufb` score reward models alone, all others the models
    that write. Empty to have the scores on held-out data alone, which every stage has."""
    preset: Literal["paper", "lm_eval"] = "paper"
    """`paper`: chat template, shots and answer length as trainers/tasks/registry.py has them.
    `lm_eval`: no chat template, the rest as lm-eval's task has it."""
    limit: Count | None = None
    """Items per task, a seeded random subset that is the same for every model; all of them when
    empty."""
    items_per_batch: Annotated[Count, Field(serialization_alias=OLD_ITEMS_PER_BATCH)] = 16
    """Sequences at a time where lm-eval's own class answers: under sampling, and where the fast
    one does not fit the model. The fast one fills its batches by tokens. Part of the setting all
    the same: a change has every model scored anew."""
    chat_template: bool | None = None
    """Wrap prompts in the chat template, or do not, whatever the preset says."""
    data_dir: str | None = None
    """Folder with the benchmarks' items as local files, in place of the hub."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of scoring; `auto` takes bfloat16 where the device has it."""
    backend: Literal["transformers", "vllm"] = "transformers"
    """What runs the model: this process, or lm-eval's vLLM class, which takes a whole GPU (`python
    -m pip install 'lm-eval[vllm]'` first)."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, value: Any) -> Any:
        if not isinstance(value, dict) or OLD_ITEMS_PER_BATCH not in value:
            return value
        if "items_per_batch" in value:
            raise ValueError(f"{OLD_ITEMS_PER_BATCH} is the old name of items_per_batch; give one")
        rest = {key: given for key, given in value.items() if key != OLD_ITEMS_PER_BATCH}
        return rest | {"items_per_batch": value[OLD_ITEMS_PER_BATCH]}


class EvaluateAt(EvaluateSpec):
    """As a trial that goes on with the benchmarks' data sets that its run began with."""

    commits: dict[str, str]
    """Data set on the hub -> its commit, where that is not the newest."""
