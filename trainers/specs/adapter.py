"""The keys of `adapter`: training a low-rank adapter in place of all weights."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from trainers.specs.fields import Count, Positive, Strict


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _named(value: Any) -> Any:
    if isinstance(value, tuple) and not value:
        raise ValueError("an empty list; name at least one module, as q_proj")
    return value


class Adapter(Strict):
    """LoRA (Hu et al. 2021, arXiv 2106.09685) by PEFT: each target W gets `scale * B A` added, and
    A and B alone are trained. A starts random, by the trial's `seed`, and B at zero."""

    rank: Count = 16
    """Rows of A and columns of B."""
    alpha: Positive = 32.0
    """The scale of B A is alpha / rank, or alpha / sqrt(rank) with `rslora`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that are set to zero while training. What is drawn depends on
    the micro-batches, so that with it a step depends on `tokens_per_micro_batch`,
    `noise_scale_every` and the device."""
    targets: Annotated[
        Literal["all_linear", "attention", "mlp"] | tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(_listed),
        AfterValidator(_named),
    ] = "all_linear"
    """Modules that get an adapter: the linear ones of all layers, those of attention or of the
    feed-forward blocks alone, or a list of names, such as `q_proj`. A name that several blocks use
    means all of them; `attn.c_proj` means one. Embeddings and head get none, nor do experts that
    are no modules."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732)."""
    dora: bool = False
    """Train the length of each row of W too (Liu et al. 2024, arXiv 2402.09353)."""
    base_weights: Annotated[
        Literal["float32", "nf4"], Field(exclude_if=lambda kept: kept == "float32")
    ] = "float32"
    """Of the frozen weights: as they are, or `nf4`, with the linear modules of all layers in 4-bit
    NormalFloat, doubly quantised (QLoRA, Dettmers et al. 2023, arXiv 2305.14314). What is trained,
    scored and exported is the adapter on the weights that the 4 bits stand for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The targets that are given by name."""
        return self.targets if isinstance(self.targets, tuple) else ()

    @property
    def in_4_bits(self) -> bool:
        return self.base_weights == "nf4"
