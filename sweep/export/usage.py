"""How an exported model is loaded, for its card: Python in Markdown."""

from trainers.models import adapters, load


def adapter(base: str, in_4_bits: bool = False) -> str:
    """PEFT finds the base model by its name, unless only this project knows that. One that was
    trained on a base in 4 bits has a file that says so."""
    if not load.on_hub(base):
        return (
            f"The adapter belongs on `{base}`, a model that the sweep itself makes or unpacks:\n\n"
            "```python\n"
            "from trainers.models import load  # of the sweep's repository\n\n"
            'model, tokenizer = load.load(".")  # the folder of this file, the adapter merged\n'
            "```"
        )
    return _on_4_bits() if in_4_bits else _on_whole_weights()


def _on_whole_weights() -> str:
    return (
        "```python\n"
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoTokenizer\n\n"
        'folder = "."  # of this file\n'
        "model = AutoPeftModelForCausalLM.from_pretrained(folder)\n"
        f"{CHAT}"
        "```"
    )


def _on_4_bits() -> str:
    return (
        "```python\n"
        "import json\n\n"
        "import torch\n"
        "from peft import AutoPeftModelForCausalLM\n"
        "from transformers import AutoTokenizer, BitsAndBytesConfig\n\n"
        'folder = "."  # of this file\n'
        f'with open(f"{{folder}}/{adapters.BASE_CONFIG}") as file:\n'
        "    in_4_bits = BitsAndBytesConfig.from_dict(json.load(file))\n"
        "model = AutoPeftModelForCausalLM.from_pretrained(\n"
        "    folder, quantization_config=in_4_bits, dtype=torch.float32\n"
        ")\n"
        f"{CHAT}"
        "```"
    )


CHAT = (
    "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
    'turns = [{"role": "user", "content": "Hello"}]\n'
    "inputs = tokenizer.apply_chat_template(\n"
    '    turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
    ")\n"
    "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0]))\n"
)


def judge() -> str:
    return (
        "```python\n"
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n\n"
        'folder = "."  # of this file\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        "model = AutoModelForSequenceClassification.from_pretrained(folder)\n"
        'turns = [{"role": "user", "content": "Hello"}, '
        '{"role": "assistant", "content": "Hi!"}]\n'
        "text = tokenizer.apply_chat_template(turns, tokenize=False)\n"
        "end = text.rindex(tokenizer.eos_token) + len(tokenizer.eos_token)\n"
        "model.config.pad_token_id = None  # the score is read at the end of the answer\n"
        'inputs = tokenizer(text[:end], add_special_tokens=False, return_tensors="pt")\n'
        "print(model(**inputs).logits.item())  # higher is better\n"
        "```"
    )


def policy() -> str:
    return (
        "```python\n"
        "from transformers import pipeline\n\n"
        'chat = pipeline("text-generation", ".")  # the folder of this file\n'
        'print(chat([{"role": "user", "content": "Hello"}])[0]["generated_text"][-1]["content"])\n'
        "```"
    )
