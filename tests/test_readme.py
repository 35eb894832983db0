"""The README's commands: its Python blocks run as doctests, its shell lines run here."""

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(command)
    for block in re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
    for line in block.strip().splitlines()
    for command in line.split("&&")
]


def test_every_block_is_python_or_console():
    """Protects against a block that no test runs: doctest takes python, this file console."""
    assert set(re.findall(r"^```(\w+)", README, flags=re.MULTILINE)) == {"python", "console"}
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "pip"], ids=" ".join)
def test_pip_installs_extras_that_exist(command):
    """Protects the installation lines against an extra that was renamed; CI runs them in full."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = re.fullmatch(r"\.\[(\w+)\]", command[2]).groups()
    assert command[:2] == ["pip", "install"]
    assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "python"], ids=" ".join)
def test_python_commands_run(command, tmp_path, monkeypatch, capsys):
    """Protects the commands of the README, run as written, next to the table they name."""
    if command[:3] == ["python", "-m", "pytest"]:
        return  # this very run
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    pytest.importorskip("matplotlib")
    from fastgd.__main__ import main

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(200, 3))
    table[:, 2] = table[:, 0] - 2 * table[:, 1]
    np.savetxt("measurements.csv", table, delimiter=",", header="heat,time,yield", comments="")
    assert command[:3] == ["python", "-m", "fastgd"]
    assert main(command[3:]) == 0
    assert capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == (command[3] == "train")
