"""URLs of Apprise (Slack, Discord, mail, ntfy, ...), checked and opened. The only `import apprise`.

A URL is kept as it is written, with `${VARIABLE}` in the place of what is secret.
"""

import os
import re
from collections import Counter
from typing import Any
from urllib.parse import unquote

VARIABLE = re.compile(r"\$\{(\w+)\}")


def checked(url: str) -> str:
    """
    Raises:
        ValueError: no URL of Apprise, a variable that is not set, or a secret in clear; the message
            holds no secret.
    """
    unset = [name for name in VARIABLE.findall(url) if name not in os.environ]
    if unset:
        raise ValueError(f"{url!r}: the environment has no variable {unset[0]}")
    service = _service(url)
    if service is None:
        scheme = url.partition("://")[0] if "://" in url else "it"
        raise ValueError(
            f"no URL that Apprise knows ({scheme!r}); such as ntfy://topic, slack://${{SLACK}}, "
            "json://localhost:8080: https://github.com/caronc/apprise/wiki lists them"
        )
    shown = _service(VARIABLE.sub("VARIABLE", url)) or service  # as some forms need the values
    hidden = _words(shown.url()) - _words(shown.url(privacy=True))
    written = VARIABLE.sub(" ", url)
    if hidden & _words(written) or (hidden and written == url):
        raise ValueError(
            f"{masked(url)}: holds a secret; put the URL into the environment, and write "
            "${NAME_OF_THE_VARIABLE} here"
        )
    return url


def masked(url: str) -> str:
    """The URL without its secrets and its options, for eyes."""
    service = _service(url)
    return "?" if service is None else service.url(privacy=True).partition("?")[0]


def send(url: str, title: str, text: str) -> str:
    """Send one message, within some seconds; returns why that failed, or ""."""
    import logging

    import apprise

    target = apprise.Apprise()
    target.add(_filled(url))
    said: Any
    with apprise.LogCapture(level=logging.INFO, fmt="%(message)s") as said:
        if target.notify(title=title, body=text):
            return ""
        lines = said.getvalue().split("\n")
    return next((line.strip() for line in lines if "error" in line.lower()), "it did not take it")


def _filled(url: str) -> str:
    return VARIABLE.sub(lambda name: os.environ.get(name[1], ""), url)


def _words(url: str) -> Counter[str]:
    """The parts of a URL between its signs."""
    return Counter(re.findall(r"[\w.-]+", unquote(url)))


def _service(url: str) -> Any:
    import apprise

    logging = apprise.logger
    before, logging.disabled = logging.disabled, True
    try:
        return apprise.Apprise.instantiate(_filled(url))
    finally:
        logging.disabled = before
