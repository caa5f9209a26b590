"""Every request of the hub's client has a limit in time."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from trainers import compat_hub


@pytest.fixture
def silent():
    """A server that accepts and says nothing."""
    released = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self):
            released.wait(20)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    released.set()
    server.shutdown()


def test_silent_hub_is_given_up(silent, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(compat_hub, "HF_HUB_ETAG_TIMEOUT", 0.3)
    with compat_hub.bounded_client() as client, pytest.raises(Exception) as ended:
        client.get(silent, timeout=None)
    assert type(ended.value).__name__ == "ReadTimeout"
