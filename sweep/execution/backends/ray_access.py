"""Whether a cluster asks for a token, and whether the one of this machine opens it.

`ray start` asks for a token where its machine has one in `~/.ray/auth_token`, whatever the
environment says, and a driver sends its token only under RAY_AUTH_MODE=token: so the cluster is
asked first. Otherwise Ray goes on trying for half a minute, with a line a second.
"""

import os
from typing import Any

import grpc
from ray import _raylet
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from sweep.execution.backends.ray_local import CannotRun

raylet: Any = _raylet
protocol: Any = gcs_service_pb2
"""Compiled and generated code, of which pyright sees no names."""

MODE = "RAY_AUTH_MODE"
SECONDS = 10.0


def ready(address: str, place: str) -> None:
    """Have this process send its token where the cluster at `place` (HOST:PORT) asks for one.

    Raises:
        CannotRun: it asks for one that is not here.
    """
    if not _refused(place, None):
        return
    token = raylet.AuthenticationTokenLoader.instance().get_raw_token(ignore_auth_mode=True)
    copy = (
        "`ray get-auth-token` on its head node prints it: write it to ~/.ray/auth_token here, or "
        "to a file that RAY_AUTH_TOKEN_PATH names"
    )
    if not token:
        raise CannotRun(f"--address {address}: the cluster asks for a token; {copy}")
    if _refused(place, token):
        raise CannotRun(f"--address {address}: the token here is not that cluster's; {copy}")
    os.environ[MODE] = "token"
    raylet.Config.initialize("")  # read the environment again


def _refused(place: str, token: str | bytes | None) -> bool:
    """Whether the cluster does not let in who sends this token; what else is wrong, Ray says."""
    text = token.decode() if isinstance(token, bytes) else token
    metadata = [("authorization", f"Bearer {text}")] if text else []
    with grpc.insecure_channel(place) as channel:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            stub.CheckAlive(protocol.CheckAliveRequest(), timeout=SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            status = getattr(error, "code", lambda: None)()
            return status == grpc.StatusCode.UNAUTHENTICATED
    return False
