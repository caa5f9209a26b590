"""What SmolTulu (arXiv 2412.08347) reports of its training data, for tables beside ours.

Columns are the data of the three stages: allenai/tulu-3-sft-mixture (SFT),
allenai/llama-3.1-tulu-3-8b-preference-mixture (DPO and reward model) and
allenai/RLVR-GSM-MATH-IF-Mixed-Constraints (RLVR). All figures are percentages.
"""

STAGES = ("SFT", "DPO", "RLVR")

CONTAMINATION: dict[str, tuple[float, float, float]] = {
    "mmlu": (1.34, 0.69, 0.65),
    "humaneval": (0.00, 0.00, 0.00),
    "gsm8k": (0.08, 0.00, 0.00),
    "drop": (0.20, 0.07, 0.00),
    "math": (0.06, 0.02, 0.24),
    "ifeval": (0.00, 0.00, 0.00),
    "popqa": (7.21, 2.72, 0.45),
    "alpaca_eval": (1.37, 1.24, 0.12),
    "bbh": (0.02, 0.00, 0.00),
    "truthfulqa": (1.47, 0.61, 0.12),
    "wildguardmix": (0.06, 0.06, 0.00),
    "wildjailbreak": (0.00, 0.00, 0.00),
    "mmlu_pro": (0.93, 0.36, 0.66),
    "gpqa": (0.00, 0.00, 0.00),
    "agi_eval": (0.00, 0.00, 0.00),
    "bigcodebench": (0.00, 0.00, 0.00),
    "math_dataset": (0.00, 0.00, 0.00),
}
"""Benchmark -> share of its items in each stage's data: the paper's tables 1, 4 and 13."""

LANGUAGES: dict[str, tuple[str, tuple[float, float, float | None]]] = {
    "en": ("English", (83.13, 86.24, 94.80)),
    "hi": ("Hindi", (3.79, 2.23, 0.23)),
    "sw": ("Swahili", (2.02, 0.65, 0.00)),
    "ru": ("Russian", (2.00, 2.03, 0.48)),
    "es": ("Spanish", (1.15, 1.40, 1.04)),
    "ar": ("Arabic", (0.98, 0.51, 0.03)),
    "zh": ("Chinese", (0.94, 1.37, 0.66)),
    "tr": ("Turkish", (0.87, 0.42, 0.03)),
    "ur": ("Urdu", (0.78, 0.68, 0.07)),
    "pt": ("Portuguese", (0.77, 0.54, 0.10)),
    "vi": ("Vietnamese", (0.64, 0.33, 0.02)),
    "ja": ("Japanese", (0.63, 0.57, 0.40)),
    "fr": ("French", (0.66, 1.42, 1.29)),
    "bg": ("Bulgarian", (0.33, 0.18, 0.07)),
    "it": ("Italian", (0.32, 0.32, 0.05)),
    "nl": ("Dutch", (0.31, 0.18, 0.08)),
    "pl": ("Polish", (0.25, 0.22, 0.10)),
    "de": ("German", (0.23, 0.58, 0.55)),
    "th": ("Thai", (0.10, 0.10, None)),
    "el": ("Greek", (0.09, 0.04, None)),
}
"""ISO code -> name and shares (the paper's tables 10, 11 and 12): the twenty that
papluca/xlm-roberta-base-language-detection, the paper's detector, can answer."""
