"""The served page is for who has the token, and shows the report alone."""

import http.client
import threading
from collections.abc import Iterator

import pytest

from sweep.page import serve


@pytest.fixture
def server(tmp_path) -> Iterator[serve.Server]:
    report = tmp_path / "run" / "report"
    report.mkdir(parents=True)
    (report / "index.html").write_text("the page")
    (tmp_path / "run" / "grid.yaml").write_text("a record")
    (tmp_path / "secret.txt").write_text("beside the run")
    (report / "link.txt").symlink_to(tmp_path / "secret.txt")
    with serve.Server(tmp_path / "run", 0) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield one
        one.shutdown()


def asked(server: serve.Server, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(serve.HOST, server.server_port, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read_text = response.read().decode
    return response


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_token_in_the_address_becomes_a_cookie(server):
    first = asked(server, f"/?token={server.token}")
    assert first.status == 303 and first.headers["Location"] == "/report/index.html"
    cookie = first.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    page = asked(server, "/report/index.html", Cookie=cookie.partition(";")[0])
    assert page.status == 200 and page.read_text() == "the page"
    assert asked(server, "/report/index.html", Authorization=f"Bearer {server.token}").status == 200


@pytest.mark.parametrize("others", ['a={"x":1}; ', "a=b c; ", "sweep_token_1=other; "])
def test_cookie_is_found_among_those_of_other_servers(server, others):
    cookies = f"{others}{server.cookie}={server.token}"
    assert str(server.server_port) in server.cookie
    assert asked(server, "/report/index.html", Cookie=cookies).status == 200


@pytest.mark.parametrize("given", ["", "wrong", "é"])
def test_without_the_token_nothing_is_shown(server, given):
    cookie = f"{server.cookie}={given}".encode().decode("latin-1")
    assert asked(server, "/report/index.html", Cookie=cookie).status == 401
    assert asked(server, "/?token=wrong").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/grid.yaml", "/report/../grid.yaml", "/report/%2e%2e/grid.yaml", "/report/link.txt",
        "/report", "/report/", "/", "//etc/passwd", "/report/none.html",
    ],
)  # fmt: skip
def test_nothing_but_files_of_the_report_is_given_out(server, path):
    assert asked(server, path, Authorization=f"Bearer {server.token}").status == 404


def test_a_page_of_another_name_is_refused(server):
    headers = {"Host": "evil.example", "Authorization": f"Bearer {server.token}"}
    assert asked(server, "/report/index.html", **headers).status == 421
