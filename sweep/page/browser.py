"""Opens a page in the reader's browser, where there is one."""

import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path


def show(page: Path, say: Callable[[str], None]) -> None:
    """Open a page from disk; where no browser can be had, say how to see it from elsewhere."""
    screen = sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )  # without one, webbrowser would start a text browser in this terminal
    if not (screen and webbrowser.open(page.absolute().as_uri())):
        run_dir = page.parent.parent
        say(f"--open: no browser here; python -m sweep.status {run_dir} --serve shows the page")
