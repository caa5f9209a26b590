"""URLs of `notify:`: which are none, and which show a secret."""

import pytest

from sweep.gridfile.load import GridError

GRID = """\
name: told
model: tiny
stages:
  sft:
    kind: sft
    data: {name: world:sft, examples: 40}
    grid: {learning_rate: [0.001, 0.002], batch_size: [4]}
evaluate: {benchmarks: []}
"""


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "JHMHI8qBe7bk2ZwO5U711o3dV_js"),
        ("mailtos://me:hunter2@gmail.com?to=${TOLD}", "hunter2"),
        ("mailtos://me@gmail.com?pass=hunter%402&to=${TOLD}", "hunter"),
        ("ntfy://me:me@host/${TOLD}", ":me@"),
        ("discord://4174216298/${TOLD}", "4174216298"),
    ],
)
def test_secret_in_clear_is_refused_beside_a_variable_too(load, monkeypatch, url, secret):
    monkeypatch.setenv("TOLD", "you")
    with pytest.raises(GridError) as refused:
        load(GRID + f"notify: '{url}'\n")
    assert "holds a secret" in str(refused.value)
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["mailtos://me:${TOLD}@gmail.com?to=you@gmail.com", "ntfy://me:${TOLD}@host/you", "${URL}/me"],
)
def test_secret_by_a_variable_is_accepted(load, monkeypatch, url):
    monkeypatch.setenv("TOLD", "you")
    monkeypatch.setenv("URL", "json://you:hunter2@localhost")
    assert load(GRID + f"notify: '{url}'\n").notify.to == [url]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", r"notify\.to\[0\]: no URL that Apprise knows"),
        ("foo://bar", r"notify\.to\[0\]: no URL that Apprise knows \('foo'\)"),
        ("5", "notify: 5 is not"),
    ],
)
def test_no_url_of_apprise_is_refused(load, url, told):
    with pytest.raises(GridError, match=told):
        load(GRID + f"notify: {url}\n")
