"""What SECURITY.md promises: no code from data, no secret in a file, no door left open."""

import ast
import contextlib
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    file for name in ("sweep", "trainers", "analysis") for file in ROOT.glob(f"{name}/**/*.py")
)
UNPICKLE = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self):
        return os.mkdir, (str(self.sign),)


def plant(place: Path, sign: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(pickle.dumps(Canary(sign)))


def test_canary_sings(tmp_path):
    plant(tmp_path / "file", tmp_path / "sign")
    pickle.loads((tmp_path / "file").read_bytes())
    assert (tmp_path / "sign").exists()


def test_pickles_beside_records_and_weights_are_never_read(
    chain_run, chain, drive, tmp_path, monkeypatch
):
    """A run goes on in a folder full of them: a new benchmark reads every model."""
    run, sign = tmp_path / "chain", tmp_path / "sign"
    shutil.copytree(chain_run.path, run)
    for folder in [
        *run.glob("trials/*"),
        *run.glob("trials/*/model"),
        *run.glob("trials/*/scores"),
    ]:
        for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "rng_state.pth"):
            plant(folder / name, sign)
    for name in ("tuner.pkl", "trainable.pkl", "searcher-state-now.pkl", "data/cache.pickle"):
        plant(run / name, sign)
    more = chain.replace("world_arithmetic]", "world_arithmetic, world_continuation]")
    assert drive(more, run).code == 0
    assert not sign.exists()


def test_model_with_pickled_weights_alone_is_refused_unread(chain_run, tmp_path):
    from trainers.models import load

    (source,) = chain_run.path.glob("trials/first-*/model")
    folder, sign = tmp_path / "model", tmp_path / "sign"
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin", sign)
    with pytest.raises(load.ModelUnavailable, match=r"safetensors"):
        load.load(str(folder))
    assert not sign.exists()


def test_model_that_brings_code_is_refused_and_its_code_not_run(chain_run, tmp_path):
    from trainers.models import load

    (source,) = chain_run.path.glob("trials/first-*/model")
    folder, sign = tmp_path / "model", tmp_path / "sign"
    shutil.copytree(source, folder)
    code = f"import os\nos.mkdir({str(sign)!r})\nclass C: pass\n"
    (folder / "modeling_other.py").write_text(code)
    settings = json.loads((folder / "config.json").read_text()) | {
        "model_type": "other",
        "auto_map": {
            "AutoConfig": "modeling_other.C",
            "AutoModelForCausalLM": "modeling_other.C",
        },
    }
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(load.ModelUnavailable):
        load.load(str(folder))
    assert not sign.exists()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_unpickles_or_trusts_code_of_a_model(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not UNPICKLE & {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            if [name.name for name in node.names] != ["cpu_count"]:  # joblib's, which reads nothing
                assert str(node.module).partition(".")[0] not in UNPICKLE
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called != "torch.load"
            if called == "PeftModel.from_pretrained":  # safetensors alone; has no such option
                continue
            if called.endswith(".from_pretrained"):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("trust_remote_code") == "False", called


URLS = {
    "http://127.0.0.1:8265": False,
    "http://localhost:8265": False,
    "http://[::1]:8265": False,
    "none": False,
    "http://0.0.0.0:8265": True,
    "http://10.0.0.5:8265": True,
}


def test_dashboard_beyond_this_machine_is_warned_of():
    """In a process of its own: Ray stays out of this one."""
    code = (
        "import json, sys; from sweep.execution.backends import ray_cluster as cluster; "
        "print(json.dumps({url: cluster.exposed(url) for url in sys.argv[1:]}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *URLS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = json.loads(run.stdout)
    assert {url: said[url] is not None for url in URLS} == URLS
    assert "RAY_AUTH_MODE=token" in said["http://10.0.0.5:8265"]


SECRETS = {
    "WANDB_API_KEY": "5ec4e7a0" * 5,
    "HF_TOKEN": "hf_Pl4ntedS3cretThatMustNotAppear01",
    "HUGGING_FACE_HUB_TOKEN": "hf_Pl4ntedS3cretThatMustNotAppear02",
    "AWS_ACCESS_KEY_ID": "AKIAPL4NTEDSECRET001",
    "AWS_SECRET_ACCESS_KEY": "Pl4ntedS3cretThatMustNotAppear/AwsKey/03",
}


class Guarded(NamedTuple):
    """A run on Ray with secrets in its environment, which has ended."""

    output: str
    run: Path
    ray: Path
    token_mode: int
    without_token: int
    wrong_token: int
    right_token: int
    from_outside: bool


@pytest.fixture(scope="module")
def guarded(small, tmp_path_factory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    ray = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of sockets have to be short
    text = small.replace("steps: 3", "steps: 200")
    (folder / "grid.yaml").write_text(f"{text}tracking: {{wandb: {{project: p}}}}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep.run", str(folder / "grid.yaml")],
        cwd=folder,
        env=os.environ
        | SECRETS
        | {"PYTHONPATH": str(ROOT), "HOME": str(folder), "RAY_TMPDIR": str(ray), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = ""
    while "Ray dashboard: " not in output:
        line = process.stdout.readline()
        assert line, output
        output += line
    url = output.partition("Ray dashboard: ")[2].split()[0]
    token_file = folder / ".ray" / "auth_token"
    found = {
        "token_mode": token_file.stat().st_mode & 0o777,
        "without_token": submit(url, None),
        "wrong_token": submit(url, "0" * 64),
        "right_token": submit(url, token_file.read_text()),
        "from_outside": reached_from_outside(int(url.rpartition(":")[2])),
    }
    output += process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    yield Guarded(output, folder / "runs" / "small", ray, **found)
    shutil.rmtree(ray, ignore_errors=True)


def submit(url: str, token: str | None) -> int:
    """Ask for a job to be run; the status of the answer."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({"entrypoint": "true"}).encode()
    request = urllib.request.Request(f"{url}/api/jobs/", body, headers)
    for _ in range(20):
        try:
            return urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return error.code
        except urllib.error.URLError:
            pass
        time.sleep(1)
    return 0


def reached_from_outside(port: int) -> bool:
    """Whether the port answers on another address of this machine."""
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                with contextlib.suppress(OSError):
                    socket.create_connection((one.address, port), timeout=2).close()
                    return True
    return False


@pytest.mark.slow
def test_job_without_the_token_is_refused(guarded):
    assert guarded.without_token in (401, 403)
    assert guarded.wrong_token in (401, 403)
    assert guarded.right_token == 200


@pytest.mark.slow
def test_token_is_its_owners_alone_and_the_dashboard_this_machines_alone(guarded):
    assert guarded.token_mode == 0o600
    assert not guarded.from_outside
    assert "WARNING" not in guarded.output


@pytest.mark.slow
def test_no_secret_of_the_environment_is_in_any_file(guarded):
    files = [file for place in (guarded.run, guarded.ray) for file in place.rglob("*")]
    files = [file for file in files if file.is_file() and not file.is_symlink()]
    assert any(file.name == "index.html" for file in files), "the report is among them"
    assert any(".wandb" in file.suffix for file in files), "the tracker's files are among them"
    assert any("session_" in str(file) for file in files), "Ray's logs are among them"
    leaks = [
        f"{file}: {name}"
        for file in files
        for name, secret in SECRETS.items()
        if secret.encode() in file.read_bytes()
    ]
    assert not leaks
    assert not any(secret in guarded.output for secret in SECRETS.values())
