"""The page of a run over HTTP, for a browser elsewhere: `python -m sweep.status RUN --serve`.

It listens on localhost, to be reached through an SSH tunnel, and asks for a token, which the
printed address holds. Only the report and the audit are given out, never weights or records.
"""

import hmac
import http.server
import secrets
import socket
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

SHOWN = ("report", "audit")
"""Folders of the run that are given out."""

START = "/report/index.html"
HOST = "127.0.0.1"


class Server(http.server.ThreadingHTTPServer):
    """Serves the page of one run."""

    daemon_threads = True

    def __init__(self, run_dir: Path, port: int):
        """`port` 0 takes a free one.

        Raises:
            OSError: the port is taken.
        """
        self.run_dir = run_dir.resolve()
        self.token = secrets.token_urlsafe(24)
        super().__init__((HOST, port), _Handler)

    @property
    def cookie(self) -> str:
        """Its name: a browser keeps the cookies of all ports of a machine together."""
        return f"sweep_token_{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    @property
    def tunnel(self) -> str:
        """The command that makes the address work on another machine."""
        port = self.server_port
        return f"ssh -N -L {port}:{HOST}:{port} {socket.gethostname()}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        given = parse_qs(asked.query).get("token", [""])[0]
        if not self._is_for_us():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif given and self._is_token(given):
            self.send_response(HTTPStatus.SEE_OTHER)
            cookie = f"{self.server.cookie}={given}; HttpOnly; SameSite=Strict; Path=/"
            self.send_header("Set-Cookie", cookie)
            self.send_header("Location", START if asked.path == "/" else asked.path)
            self.end_headers()
        elif not self._is_token(self._cookie()):
            self.send_error(
                HTTPStatus.UNAUTHORIZED,
                explain="Open the address with the token that sweep.status --serve printed.",
            )
        elif self._file(asked.path) is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            super().do_GET()

    def do_HEAD(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def translate_path(self, path: str) -> str:
        return str(self._file(urlsplit(path).path))

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the token would stand in a terminal's history."""

    def _is_for_us(self) -> bool:
        """Whether the request names this machine: a page of another name must not reach it."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return host in ("127.0.0.1", "localhost")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.server.token.encode())

    def _cookie(self) -> str:
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        cookies = self.headers.get("Cookie", "")
        for cookie in cookies.split(";"):  # SimpleCookie stops at another server's JSON
            name, _, value = cookie.strip().partition("=")
            if name == self.server.cookie:
                return value
        return bearer

    def _file(self, path: str) -> Path | None:
        """A file of the run that may be seen; None where there is none."""
        run_dir = self.server.run_dir
        file = (run_dir / unquote(path).lstrip("/")).resolve()
        for name in SHOWN:
            if file.is_relative_to(run_dir / name) and file.is_file():
                return file
        return None
