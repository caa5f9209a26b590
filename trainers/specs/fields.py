"""Types that the fields of specs share."""

import os
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def expanded(path: str) -> str:
    """A local path with `~` and `${VARIABLE}` replaced; any other name as it is."""
    return os.path.expanduser(os.path.expandvars(path)) if path[:1] in ("~", "$") else path


def absent(value: Any) -> bool:
    return value is None
