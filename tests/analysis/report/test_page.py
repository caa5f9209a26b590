"""The templates and the records that they show."""

import re
from importlib.resources import files

import jinja2
import pytest

from analysis.compare.compare_runs import Comparison
from analysis.report import render
from analysis.report.page import AxisPage, GridPage, ReportPage, RunPage

TEMPLATES = {
    template.name: template.read_text(encoding="utf-8")
    for template in (files("analysis.report") / "templates").iterdir()
    if template.name.endswith(".html.j2")
}


@pytest.mark.parametrize(
    ("record", "fields"), [("run", RunPage), ("grid", GridPage), ("axis", AxisPage)]
)
def test_every_field_that_a_template_shows_is_one(record, fields):
    code = [part for text in TEMPLATES.values() for part in re.findall(r"{[{%].*?[}%]}", text)]
    names = (re.sub(r'"[^"]*"', "", part) for part in code)
    shown = {name for part in names for name in re.findall(rf"\b{record}\.(\w+)", part)}
    assert shown and shown <= set(fields._fields)


@pytest.mark.parametrize("renamed", ["name", "several"])  # shown, and asked by an `if`
def test_a_field_that_is_renamed_ends_the_rendering(renamed):
    page = ReportPage("mine", False, Comparison([], [], []), [])._asdict()
    assert "<h1>Which learning rate, which batch size? <span" in render.render("report", page)
    page["another"] = page.pop(renamed)
    with pytest.raises(jinja2.UndefinedError, match=f"'{renamed}' is undefined"):
        render.render("report", page)
