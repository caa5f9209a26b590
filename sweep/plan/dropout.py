"""What is said of a model's own dropout, where its configuration is on this machine."""

from collections.abc import Iterator

from analysis.text import listed
from sweep.gridfile.keys.schema import Grid
from trainers.models import at_hand, dropout


def lines(grid: Grid) -> Iterator[str]:
    """A line, where stages train with it: their steps depend on more than their examples."""
    stages = [
        name
        for name, stage in grid.stages.items()
        if not all(spec.without_dropout for _, spec in stage.cells)
    ]
    if stages and (its := at_hand.dropout(grid.model.name)):
        yield (
            f"dropout: {grid.model.name} has its own ({dropout.words(its)}), which is on in "
            f"{listed(stages)}, as in TRL's SFT. A batch is the exact examples, but what is "
            "dropped depends on the micro-batches: another GPU, tokens_per_micro_batch or "
            "noise_scale_every changes the weights as another seed does. `disable_dropout: true` "
            "in the stage turns it off"
        )
