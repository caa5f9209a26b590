"""The optimizer of a stage and its keys. Each optimizer reads those that begin with its name."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainers.specs.fields import Positive, Strict

ADAM = ("adamw", "adamw_8bit", "muon")
"""Optimizers that keep a mean of squares: what is said of `adam_beta2` holds for them alone."""

READERS = {
    "adam_": ADAM,
    "sgd_": ("sgd",),
    "lion_": ("lion",),
    "muon_": ("muon",),
    "adafactor_": ("adafactor",),
}
"""Which optimizers read the keys that begin so."""

STATE_BYTES = {
    "adamw": 8.0, "adamw_8bit": 2.0, "adafactor": 0.1, "sgd": 4.0, "lion": 4.0, "muon": 8.0,
}  # fmt: skip
"""Of the optimizer for each trained number, beside the weight and its gradient. Muon keeps 4 for a
matrix of a layer and 8 for all else; Adafactor a row and a column of each matrix."""


def state_bytes(optimizer: str, weights: float, in_tables: float) -> float:
    """Of the optimizer for so many trained weights, `in_tables` of them in embeddings: there the
    moments of `adamw_8bit` are in 32 bits (trainers/steps/optimizers.py)."""
    of_tables = STATE_BYTES["adamw" if optimizer == "adamw_8bit" else optimizer]
    return STATE_BYTES[optimizer] * (weights - in_tables) + of_tables * in_tables


UNSHARDED = {
    "adamw_8bit": "bitsandbytes has no kernel for parts of weights",
    "lion": "bitsandbytes has no kernel for parts of weights",
    "adafactor": "torch's takes no parts of weights, of whose rows and columns it needs means",
    "muon": "it makes whole matrices orthogonal, and rounds parts of them otherwise",
}
"""Why an optimizer does not work on sharded weights, with torch 2.13 and bitsandbytes 0.50."""


def _unless(default: object):
    return Field(exclude_if=lambda value: value == default)


class OptimizerSpec(Strict):
    """How a gradient becomes a step."""

    learning_rate: Positive
    """Peak learning rate."""
    optimizer: Annotated[
        Literal["adamw", "adamw_8bit", "adafactor", "sgd", "lion", "muon"], _unless("adamw")
    ] = "adamw"
    """`adamw`, `adafactor` (its learning rate is relative to the size of each weight matrix),
    `sgd`: torch's. `adamw_8bit` (moments in 8 bits), `lion`: bitsandbytes'. `muon`: torch's, for
    the matrices of the layers, its steps scaled to AdamW's size (Liu et al. 2025, arXiv
    2502.16982); all other weights get `adamw`."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Each step shrinks the weights by this times the learning rate; of `sgd` it is added to the
    gradient. Biases and norms do not decay."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's norm to this; 0 does not clip (Tulu 3's choice)."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay of the mean gradient."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] | None = 0.999
    """AdamW's decay of the mean of squares, per optimizer step."""
    adam_beta2_half_life_tokens: Positive | None = None
    """Tokens after which AdamW's mean of squares has half forgotten, instead of adam_beta2, which
    then is 2^(-tokens per step / half-life) and means the same at every batch size (Marek et al.
    2025, arXiv 2507.07101)."""
    adam_epsilon: Annotated[Positive, _unless(1e-8)] = 1e-8
    """Added to AdamW's root of the mean of squares."""
    sgd_momentum: Annotated[float, Field(ge=0, lt=1), _unless(0.9)] = 0.9
    """Share of the last step that the next one keeps."""
    sgd_nesterov: Annotated[bool, _unless(False)] = False
    """Look ahead by the momentum, as Nesterov does."""
    lion_beta1: Annotated[float, Field(ge=0, lt=1), _unless(0.9)] = 0.9
    """How much of the sign's vector is the past (Chen et al. 2023, arXiv 2302.06675)."""
    lion_beta2: Annotated[float, Field(ge=0, lt=1), _unless(0.99)] = 0.99
    """How slowly the past forgets."""
    muon_momentum: Annotated[float, Field(ge=0, lt=1), _unless(0.95)] = 0.95
    """Share of the mean gradient that stays, per optimizer step."""
    adafactor_beta2_decay: Annotated[float, Field(ge=-1, lt=0), _unless(-0.8)] = -0.8
    """The mean of squares at step t has beta2 = 1 - t^decay (Shazeer and Stern 2018, arXiv
    1804.04235, section 7.2)."""
    adafactor_clip: Annotated[Positive, _unless(1.0)] = 1.0
    """Largest root mean square of an update before the learning rate."""

    @property
    def has_adam(self) -> bool:
        return self.optimizer in ADAM

    @model_validator(mode="after")
    def _own_keys(self):
        for name, field in type(self).model_fields.items():
            reader = next((who for start, who in READERS.items() if name.startswith(start)), None)
            if reader is None or self.optimizer in reader or name not in self.model_fields_set:
                continue
            if getattr(self, name) not in (None, field.default):
                raise ValueError(
                    f"{name} is read by {' and '.join(reader)} alone, and the optimizer is "
                    f"{self.optimizer}; leave it out, or give it in an arm with its optimizer"
                )
        if self.sgd_nesterov and not self.sgd_momentum:
            raise ValueError("sgd_nesterov needs sgd_momentum above 0")
        return self
