"""Write the report of a run folder or a table.

    python -m analysis.report runs/quickstart
    python -m analysis.report results.csv --out report
    python -m analysis.report wandb_export.csv --where project=smoltulu --by model --last step
    python -m analysis.report outputs/          # lm-eval's, the HF Trainer's, Ray Tune's, W&B's
    python -m analysis.report sweep.csv --columns learning_rate=lr --direction my_score=max
    python -m analysis.report runs/small runs/large published:smoltulu
    python -m analysis.report runs/lr_bs --weights gsm8k=2,arc=1 --against smoltulu

The page is one file that opens from disk with no network. Several sources make a comparison. Same
input, same bytes.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from analysis.report import build, terminal
from analysis.tables import published
from analysis.tables.errors import ResultsError
from analysis.tables.options import add_arguments, from_arguments
from analysis.tables.records.run_folder import load


def main(arguments: list[str] | None = None) -> int:
    """The command line; 2 when a path cannot be read."""
    given = _parser().parse_args(arguments)
    try:
        index = build.write(
            given.sources,
            given.out,
            from_arguments(given),
            given.all_metrics,
            given.weights,
            given.against,
        )
        if given.against:
            print((index.parent / build.AGAINST).read_text(encoding="utf-8"))
        console = Console(highlight=False, markup=False, emoji=False)
        record = load(index.with_name(terminal.RECOMMENDATIONS))
        with console.capture() as answer:
            console.print(terminal.answer(record, console.width))
        print(answer.get() + str(index), flush=True)
    except ResultsError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head`: the report is written, and nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN_DIR|TABLE|FOLDER|published:NAME",
        help="run folders, tables (.csv, .tsv, .json, .jsonl, .parquet), folders of other tools' "
        "runs, or published:smoltulu; several are compared",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the report (default: RUN_DIR/report, or NAME-report beside a table)",
    )
    add_arguments(parser)
    parser.add_argument(
        "--all-metrics", action="store_true", help="fit and draw every metric, not the primary ones"
    )
    parser.add_argument(
        "--weights",
        type=_weights,
        metavar="BENCHMARK=WEIGHT,...",
        help="weights of the benchmarks in the mix that one setting is chosen for; those not named "
        "have none (default: task types alike, benchmarks of a type alike)",
    )
    parser.add_argument(
        "--against",
        choices=published.NAMES,
        help="set published tables beside the runs, with differences and intervals",
    )
    return parser


def _weights(text: str) -> dict[str, float]:
    """gsm8k=2,arc=1"""
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not (name.strip() and equals and 0 <= weight < float("inf")):
            raise argparse.ArgumentTypeError(
                f"'{part}' is not BENCHMARK=WEIGHT with a weight of 0 or more"
            )
        weights[name.strip()] = weight
    if not sum(weights.values()) > 0:
        raise argparse.ArgumentTypeError(f"'{text}': at least one weight has to be above 0")
    return weights


if __name__ == "__main__":
    sys.exit(main())
