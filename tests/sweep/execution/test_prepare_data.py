"""What is tokenised before the trials is what they open."""

from trainers.models.chat_template import CHAT_TEMPLATE

CHAIN = """\
name: chain
model: tiny
stages:
  first:
    kind: sft
    data: &data {name: world:sft, examples: 24}
    chat_template: TEMPLATE
    learning_rate: 0.001
    batch_size: 8
    steps: 1
    heldout: 8
  second:
    kind: sft
    start_from: first
    data: *data
    learning_rate: 0.001
    batch_size: 8
    steps: 1
    heldout: 8
evaluate: {benchmarks: []}
"""


def test_stage_reads_its_data_in_the_template_of_the_one_before(drive, tmp_path):
    template = tmp_path / "talk.jinja"
    template.write_text(CHAT_TEMPLATE.replace("SmolLM", "Ada"))
    ran = drive(CHAIN.replace("TEMPLATE", str(template)), tmp_path / "runs" / "chain")
    assert ran.code == 0, ran.output
    began = min(file.stat().st_mtime for file in ran.path.glob("trials/*/attempt.json"))
    prepared = sorted((ran.path / "data").glob("*/*.arrow"))
    assert len(prepared) == 4  # both parts of what each stage reads, none of them by a trial
    assert all(file.stat().st_mtime <= began for file in prepared)
