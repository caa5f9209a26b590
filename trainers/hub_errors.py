"""What the hub's client raises, in one line that says what to do about it."""

from collections.abc import Iterator
from typing import Any


def reason(error: BaseException, revision: str | None = None) -> str:
    """One line: what the hub answered and what to do about it, or the error's own first line."""
    from huggingface_hub import errors

    chain = list(_chain(error))
    for known, advice in (
        (errors.GatedRepoError, "it is gated; accept its terms on the hub and set HF_TOKEN"),
        (errors.RepositoryNotFoundError, "the hub has none of that name, or it is private"),
        (errors.RevisionNotFoundError, f"the hub has it, but not revision {revision!r}"),
        (errors.OfflineModeIsEnabled, "HF_HUB_OFFLINE is set and it was not fetched before"),
    ):
        if any(isinstance(part, known) for part in chain):
            return advice
    for part in chain:
        status = getattr(getattr(part, "response", None), "status_code", None)
        if status == 429:
            return "the hub has had too many requests from here (429); wait, or set HF_TOKEN"
        if status is not None:
            return f"the hub answers {status}; try again later"
    lines: list[Any] = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0]} ({type(chain[-1]).__name__}); is the hub to be reached from here?"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
