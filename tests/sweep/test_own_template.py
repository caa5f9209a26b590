"""A stage may give its models a chat template of their own; the model before training keeps its."""

import json

import pandas as pd
import pytest

TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message.role }}: {% if message.role == 'assistant' %}\
{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}
{% else %}{{ message.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"""


@pytest.mark.slow
def test_a_stage_with_a_chat_template_of_its_own_has_its_report(drive, small, tmp_path):
    (tmp_path / "own.jinja").write_text(TEMPLATE)
    arms = (
        "    arms: [{name: as_is, set: {}}, "
        f"{{name: own, set: {{chat_template: {tmp_path / 'own.jinja'}}}}}]\n"
    )
    ended = drive(small.replace("    steps: 3\n", f"{arms}    steps: 3\n"), tmp_path / "small")
    assert ended.code == 0, ended.output
    table = pd.read_csv(ended.path / "results.csv", keep_default_na=False)
    scored = table[(table.benchmark == "world_choice") & (table.status == "ok")]
    assert set(zip(scored.stage, scored.arm, strict=True)) == {
        ("base", ""), ("sft", "as_is"), ("sft", "own"),
    }  # fmt: skip
    templates = [
        (path.parent.parent.name.partition("-")[0], record["settings"]["template"])
        for path in sorted(ended.path.glob("trials/*/scores/*.json"))
        if (record := json.loads(path.read_text()))["benchmark"] == "world_choice"
    ]
    of_base = {template for stage, template in templates if stage == "base"}
    assert of_base < {template for stage, template in templates if stage == "sft"}
    page = (ended.path / "report" / "index.html").read_text()
    assert "asked in different chat templates: base and sft (as_is); sft (own)" in page
