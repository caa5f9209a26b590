"""What `make docs` adds to the pages: every key of the grid file, and the pages of the root."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from sweep.gridfile.keys import reference

ROOT = Path(__file__).parent.parent
OF_ROOT = ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_config(config: Any) -> Any:
    """Pages that mkdocs.yml does not name stand under More."""
    named = {page for group in config.nav for part in group.values() for page in _pages(part)}
    others = [page.name for page in sorted(Path(config.docs_dir).glob("*.md"))]
    if more := [page for page in others if page not in named]:
        config.nav.append({"More": more})
    return config


def _pages(part: list[dict[str, str]]) -> list[str]:
    return [page for entry in part for page in entry.values()]


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that do not lie in docs/."""
    files.append(File.generated(config, "grid_reference.md", content=reference.page()))
    for name in OF_ROOT:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links out of docs/: to a page of the root, or the name of a file of the repository alone."""

    def inside(link: re.Match[str]) -> str:
        text, target = link.groups()
        return f"[{text}]({target})" if target in OF_ROOT else f"{text} (`{target}`)"

    return re.sub(r"\[([^\]]*)\]\(\.\./([^)]+)\)", inside, markdown)
