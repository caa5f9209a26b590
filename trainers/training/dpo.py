"""Direct preference optimisation: a thin reading of TRL's DPOTrainer, on exact batches of pairs.

The loss is TRL's formula and not its code, which pads, and which gathers its metrics over the ranks
in every micro-batch: ours are cut by each rank on its own. The tests hold the two against each
other. The reference's log-probabilities are computed once per parent and kept beside the data.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from filelock import FileLock
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from trainers.data.prepare import Prepared
from trainers.durable import flush
from trainers.evaluate.benchmarks import HELDOUT
from trainers.evaluate.heldout_loss import losses as answer_losses
from trainers.evaluate.scores import Evaluation, short_hash, summarise
from trainers.models import load
from trainers.ops.chunked_loss import Head
from trainers.ops.packed_attention import Rows
from trainers.ops.pair_batches import Pair, PairBatches, cut
from trainers.specs.preference import DpoSpec
from trainers.specs.spec import StageResult
from trainers.training import loop

PRECOMPUTED = ["reference_chosen", "reference_rejected"]


class Engine(PairBatches, DPOTrainer):
    """TRL's trainer, stepping by exact batches of pairs."""

    FACTS = ("rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy")

    @staticmethod
    def collate(found: list[dict[str, Any]]) -> list[Pair]:
        return [Pair(*cut(row), torch.tensor([row[name] for name in PRECOMPUTED])) for row in found]

    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # they are among its columns


class Reference(NamedTuple):
    """Sums of the log-probabilities of the answers' tokens, float32, (pairs, 2): chosen and
    rejected, in the order of the prepared data."""

    train: np.ndarray
    heldout: np.ndarray
    computed: int
    """Pairs that had to be computed now; 0 where they were kept."""


def reference(
    start: str, open_model: Callable[[], load.Loaded], data: Prepared, cache: Path, dtype: str
) -> Reference:
    """Under the model that training starts from: computed once for each `start` and data, however
    many trials ask, and kept in `cache`."""
    bfloat16 = load.bfloat16(dtype)
    path = cache / "reference" / f"{short_hash(start, data.key, bfloat16)}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        computed = 0
        if not path.exists():
            loaded = open_model()
            train, heldout = (
                _log_probabilities(loaded, part, bfloat16) for part in (data.train, data.heldout)
            )
            computed = len(train) + len(heldout)
            aside = path.with_suffix(".part.npz")
            np.savez(aside, train=train, heldout=heldout)
            flush(aside)
            aside.rename(path)
        with np.load(path) as kept:
            return Reference(kept["train"], kept["heldout"], computed)


AT_A_TIME = 256
"""Pairs whose tokens are in memory at once."""


def _log_probabilities(loaded: load.Loaded, part: Dataset, bfloat16: bool) -> np.ndarray:
    found = [np.empty((0, 2), np.float32)]
    columns = part.with_format("torch", columns=["input_ids", "labels", "second"])
    for start in range(0, len(part), AT_A_TIME):
        rows: Any = columns.select(range(start, min(start + AT_A_TIME, len(part))))
        examples = [side for row in rows for side in cut(row)]
        losses = answer_losses(loaded, examples, bfloat16)
        found.append(-losses.reshape(-1, 2).numpy())
    return np.concatenate(found)


class Losses(NamedTuple):
    """Of each pair, (pairs,)."""

    loss: torch.Tensor
    chosen: torch.Tensor
    """Rewards: beta times the log-ratio, per token of the answer for `dpo_norm`."""
    rejected: torch.Tensor


def losses(
    policy: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor, kind: str, beta: float
) -> Losses:
    """-log sigmoid(reward of the chosen - reward of the rejected), the reward of an answer y being
    beta log(policy(y) / reference(y)), for `dpo_norm` divided by y's tokens (Lambert et al. 2024,
    arXiv 2411.15124, equation 6).

    `policy` and `reference` have the answers' log-probabilities, `tokens` their numbers of tokens,
    each (pairs, 2): chosen and rejected.
    """
    rewards = beta * (policy - reference)
    if kind == "dpo_norm":
        rewards = rewards / tokens
    chosen, rejected = rewards.unbind(dim=1)
    return Losses(-logsigmoid(chosen - rejected), chosen, rejected)


def heldout_score(
    spec: DpoSpec, loaded: load.Loaded, rows: Dataset, under_reference: np.ndarray, dtype: str
) -> Evaluation:
    """Loss, accuracy and margin on held-out pairs, by the spec's own loss and beta.

    Raises:
        ValueError: no pair is held out.
    """
    if len(rows) == 0:
        raise ValueError("no pair is held out; set `heldout` of the stage")
    policy = torch.from_numpy(_log_probabilities(loaded, rows, load.bfloat16(dtype)))
    columns: Any = rows.with_format("torch", columns=["input_ids", "labels", "second"])
    tokens = torch.tensor([[side.loss_tokens for side in cut(row)] for row in columns])
    found = losses(policy, torch.from_numpy(under_reference), tokens, spec.loss, spec.beta)
    margin = (found.chosen - found.rejected).double().numpy()
    values = {
        "loss": found.loss.double().numpy(),
        "accuracy": (margin > 0).astype(float),
        "margin": margin,
    }
    return summarise(
        {metric: float(column.mean()) for metric, column in values.items()},
        values,
        list(rows["item"]),
        primary="loss",
        lower_is_better={"loss"},
        settings={"benchmark": HELDOUT, "loss": spec.loss, "beta": spec.beta},
    )


def _forward(spec: DpoSpec, model: PreTrainedModel) -> Callable[..., tuple[torch.Tensor, ...]]:
    head = Head(model)

    def forward(
        model: PreTrainedModel, one: Rows, weights: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        lost = head.token_losses(model, one)
        policy = torch.zeros(2 * len(weights), device=lost.device).index_add(0, one.owners, -lost)
        tokens = torch.bincount(one.owners, minlength=len(policy))
        found = losses(
            policy.reshape(-1, 2), reference, tokens.reshape(-1, 2), spec.loss, spec.beta
        )
        chosen, rejected = found.chosen.detach(), found.rejected.detach()
        facts = (chosen, rejected, chosen - rejected, (chosen > rejected).float())
        return (found.loss @ weights, *(fact @ weights for fact in facts))

    return forward


_arguments = partial(
    DPOConfig,
    activation_checkpointing=False,
    max_length=None,  # truncated while preparing
    precompute_ref_log_probs=True,  # by us
    disable_dropout=True,
)


def train(
    spec: DpoSpec,
    loaded: load.Loaded,
    data: Prepared,
    kept: Reference,
    folder: Path,
    deadline: float = math.inf,
    memory_kills: int = 0,
) -> StageResult:
    """Train `loaded.model` in place; see `fit.train`. Losses are in nats a pair.

    `figures` has besides: rewards_chosen, rewards_rejected, rewards_margin and rewards_accuracy,
    means over the pairs of a batch, smoothed over the steps, and reference_pairs_computed.

    Raises:
        OutOfTime: the monotonic clock has passed `deadline`.
    """
    rows = data.train.select_columns(["input_ids", "labels", "second"])
    for name, column in zip(PRECOMPUTED, kept.train.T, strict=True):
        rows = rows.add_column(name, column)  # pyright: ignore[reportCallIssue]
    kind = loop.Kind(Engine, _arguments, partial(_forward, spec), spec.loss)
    result = loop.train(
        kind, spec, loaded.model, loaded.tokenizer, data, rows, folder, deadline, memory_kills
    )
    return result._replace(figures=result.figures | {"reference_pairs_computed": kept.computed})
