"""Errors of a file system that no code causes (a bad disk, a server of NFS that went away, locks
that it does not grant) end the command with a sentence and exit code 4."""

import errno
import fcntl
import os

import pytest

from trainers import files

GRID = """
name: small
model: tiny
stages:
  sft: {kind: sft, data: {name: world:sft, examples: 24}, batch_size: 4, learning_rate: 0.001}
evaluate: {benchmarks: [world_choice], limit: 8}
"""

CODES = (errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EROFS)


def refusing(code: int):
    """Stands in for a call that the operating system refuses."""

    def call(*arguments, **_):
        raise OSError(code, os.strerror(code), str(arguments[0]))

    return call


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize(("module", "call"), [(fcntl, "flock"), (files, "write_text")])
def test_what_the_system_refuses_is_one_sentence(module, call, code, drive, tmp_path, monkeypatch):
    monkeypatch.setattr(module, call, refusing(code))
    ended = drive(GRID, tmp_path / "small")
    assert ended.code == 4
    assert os.strerror(code) in ended.output
