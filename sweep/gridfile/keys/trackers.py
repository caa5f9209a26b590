"""Who is told of a run: trackers of its curves, and messages to people."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from sweep.gridfile.keys import apprise_urls
from trainers.specs.fields import Strict


class Wandb(Strict):
    """Weights & Biases. The key comes from the environment (WANDB_API_KEY), never from a file."""

    project: Annotated[str, Field(min_length=1)]
    entity: str | None = None
    """User or team; the key's own when empty."""
    mode: Literal["offline", "online"] = "offline"
    """Offline writes to the run folder, for `wandb sync` later."""


class Trackio(Strict):
    """Trackio, a tracker that is one local file; `trackio show` opens its dashboard."""

    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """The file is named after it, in `trackio/` of the run folder, or in TRACKIO_DIR."""


class Tracking(Strict):
    """Trackers that follow the run folder's records. Never part of a trial's identity."""

    wandb: Wandb | None = None
    """Weights & Biases."""
    tensorboard: bool = False
    """Event files in the run folder."""
    trackio: Trackio | None = None
    """One local file, without an account."""


Event = Literal["ended", "failed", "diverged", "limit", "decided"]


class Notify(Strict):
    """Messages when it matters. A target that does not answer is told once, and costs nothing."""

    to: Annotated[list[Annotated[str, AfterValidator(apprise_urls.checked)]], Field(min_length=1)]
    """Apprise URLs (https://github.com/caronc/apprise/wiki): `ntfy://topic`, `slack://${SLACK}`,
    `mailto://...`. `${VARIABLE}` is read from the environment when a message is sent, and never
    written: what is secret has to come from there."""
    events: list[Event] = Field(default_factory=lambda: list(get_args(Event)))
    """`ended`; `failed`, the first trial or the run; `diverged`, more than a third of the trials;
    `limit`, when 90 % of one is used; `decided`, when the best learning rate is inside the grid at
    every batch size."""

    @model_validator(mode="before")
    @classmethod
    def _from_urls(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"to": [value]}
        return {"to": value} if isinstance(value, list) else value
