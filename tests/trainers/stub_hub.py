"""A hub on loopback: it speaks as much of the API as huggingface_hub, datasets and transformers ask
for, serves the repositories that it is given, and keeps a log of requests."""

import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    method: str
    path: str
    at: float

    @property
    def file(self) -> str | None:
        """The repository's file whose content was asked for."""
        return self.path if self.method == "GET" and "/resolve/" in self.path else None


class Hub:
    """Repositories as {(kind, id): {path: content}}; a change of content is a new commit, and what
    was asked for once stays there under the commit that it had."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = {}
        self.history: dict[str, dict[str, bytes]] = {}
        """Commit -> its files."""
        self.log: list[Asked] = []
        self.gated: set[tuple[str, str]] = set()
        """Repositories whose terms nobody has accepted: their commits are told, no file is."""
        self.refuse: dict[str, list[int]] = {}
        """End of a path -> statuses with which the next requests for it are answered."""
        self.delay = 0.0
        """Seconds before each answer."""
        self.silent: tuple[str, ...] = ()
        """Ends of paths that get no answer for a minute and a half, and then none."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                if length := int(self.headers.get("Content-Length", 0)):
                    self.rfile.read(length)
                path = self.path.partition("?")[0]
                hub.log.append(Asked(self.command, path, time.time()))
                time.sleep(hub.delay)
                if path.endswith(hub.silent) and self.command == "GET":
                    time.sleep(90)
                    self.close_connection = True
                    return
                status, headers, body = hub.answer(path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def commit(self, repository: tuple[str, str]) -> str:
        files = sorted(self.repositories[repository].items())
        commit = hashlib.sha1(repr((repository, files)).encode()).hexdigest()
        self.history[commit] = self.repositories[repository]
        return commit

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        for end, statuses in self.refuse.items():
            if path.endswith(end) and statuses:
                return statuses.pop(0), {"Retry-After": "0"}, b""
        if found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(/.*)?", path):
            return self.api((found[1], found[2]), found[3] or "")
        if found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.file(("dataset" if found[1] else "model", found[2]), found[3], found[4])
        return 404, {}, b""

    def api(self, repository: tuple[str, str], rest: str) -> tuple[int, dict[str, str], bytes]:
        if repository not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if rest == "/auth-check" and repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        commit = self.commit(repository)
        if rest.startswith(("/revision/", "/tree/", "/paths-info/")):
            asked = rest.split("/")[2]
            commit = commit if asked == "main" else asked
        if commit not in self.history:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files = self.history[commit]
        if rest.startswith(("/tree/", "/paths-info/")):
            answer: Any = [
                {"type": "file", "path": name, "size": len(content), "oid": _tag(content)}
                for name, content in files.items()
                if rest.count("/") == 2 or name.startswith(rest.split("/", 3)[3])
            ]
        else:
            siblings = [{"rfilename": name} for name in files]
            answer = {"id": repository[1], "sha": commit, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def file(
        self, repository: tuple[str, str], revision: str, name: str
    ) -> tuple[int, dict[str, str], bytes]:
        if repository in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        commit = self.commit(repository) if repository in self.repositories else ""
        commit = revision if revision in self.history else commit
        content = self.history.get(commit, {}).get(name)
        if content is None:
            code = "EntryNotFound" if repository in self.repositories else "RepoNotFound"
            return 404, {"X-Error-Code": code}, b""
        headers = {"ETag": f'"{_tag(content)}"', "X-Repo-Commit": commit}
        return 200, headers, content


def _tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
