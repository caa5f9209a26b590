"""The hub client's HTTP client, with a limit where it has none.

By a name that may change: tests/trainers/test_compat_hub.py fails when it does.
"""

from typing import Any

from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT
from huggingface_hub.utils._http import default_client_factory


def bounded_client() -> Any:
    """The hub client's own, for whom a hub may be silent for ever where commits are asked for; a
    request that has no time limit gets that of HF_HUB_ETAG_TIMEOUT, by default 10 s, between two
    signs of life."""

    def bound(request: Any) -> None:
        limits = request.extensions.get("timeout", {})
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {
            kind: limits.get(kind) or HF_HUB_ETAG_TIMEOUT for kind in kinds
        }

    client = default_client_factory()
    client.event_hooks["request"].append(bound)
    return client
