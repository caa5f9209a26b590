"""Templates to HTML: the filters they use, and what the one file of a report carries inside.

Plotly's JavaScript is packed (gzip, base64) and unpacked by the browser: a third of its size.
"""

import base64
import gzip
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from analysis.audit import tables
from analysis.benchmarks import task
from analysis.compare.paper_text import difference_text
from analysis.fit.surface import INSIDE, WIDEST
from analysis.posterior.condition import LOSS_ERROR
from analysis.posterior.smc import SHARES
from analysis.text import decimal_places, number, probability, rate, signed, title


def render(name: str, context: Mapping[str, Any]) -> str:
    """The page of a template, `report`, `audit` or `live`.

    Raises:
        jinja2.UndefinedError: the template names what is not in the context.
    """
    return _template(name).render(context)


@cache
def plotly() -> Markup:
    """plotly.min.js as base64 of its gzip; the same bytes every time."""
    code = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return Markup(base64.b64encode(gzip.compress(code, mtime=0)).decode("ascii"))


def data(records: Any) -> Markup:
    """JSON to stand in a <script> element: nothing in it can end the element."""
    text = json.dumps(finite(records), allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def as_json(records: Any) -> str:
    """JSON for a file."""
    return json.dumps(finite(records), indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Numpy's numbers as Python's own, and None for what is no number."""
    if isinstance(value, dict):
        return {str(name): finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _script(name: str = "interactive.js") -> Markup:
    return Markup((files("analysis.figures") / name).read_text(encoding="utf-8"))


@cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.PackageLoader("analysis.report", "templates")
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "decimal_places": decimal_places,
        "rate": rate,
        "title": title,
        "probability": probability,
        "label": lambda name: task(name).label,
        "signed": signed,
        "percent": tables.percent,
        "data": data,
        "difference": difference_text,
        "upper_first": lambda text: text[:1].upper() + text[1:],
    }
    environment.globals |= {"INSIDE": INSIDE, "WIDEST": WIDEST}
    environment.globals |= {f"{family.name}_SHARE": share for family, share in SHARES.items()}
    environment.globals |= {"LOSS_ERROR": LOSS_ERROR}
    environment.globals |= {"log2": np.log2, "plotly": plotly, "script": _script, "zip": zip}
    return environment.get_template(f"{name}.html.j2")
