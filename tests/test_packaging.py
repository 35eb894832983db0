"""What an installed fastgd holds and links to.

``.ci/run`` runs this file on the wheel, away from the sources.
"""

import re
import shutil
import subprocess
from importlib import metadata, resources
from pathlib import Path

import pytest

import fastgd
from fastgd import _core

# The newest symbol versions that the extension may ask for. We may get an older OpenMP runtime than
# the one we were built with, such as torch's: whoever loads libgomp.so.1 first, loads it for all.
NEWEST = {"GOMP": (4, 0), "OMP": (1, 0), "GLIBC": (2, 34)}

HEAVY = {"dask", "joblib", "matplotlib", "pandas", "scipy", "sklearn", "torch", "tqdm"}


def readelf(*options):
    """Print what readelf says about the extension; skip where it cannot."""
    tool = shutil.which("readelf")
    if tool is None or not _core.build_info()["compiler"].startswith("gcc"):
        pytest.skip("needs readelf and a build by GCC")
    command = [tool, "--wide", *options, _core.__file__]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def version(text):
    """Turn "4.0.1" into (4, 0, 1)."""
    return tuple(map(int, text.split(".")))


def test_metadata_agree_with_the_package():
    """Protects the version from being written in two places, and the licence from getting lost."""
    installed = metadata.metadata("fastgd")
    assert installed["Version"] == fastgd.__version__
    assert installed["License-Expression"] == "BSD-3-Clause"
    (licence,) = [f for f in metadata.files("fastgd") if f.name == "LICENSE"]
    assert "Redistribution" in licence.read_text()


def test_types_are_installed():
    """Protects the annotations from being ignored by type checkers."""
    package = resources.files("fastgd")
    assert (package / "py.typed").is_file()
    assert "class Stepper" in (package / "_core.pyi").read_text(encoding="utf-8")


def test_the_command_is_installed():
    """Protects `fastgd`, the same as `python -m fastgd`."""
    (command,) = metadata.entry_points(group="console_scripts", name="fastgd")
    assert command.value == "fastgd.__main__:main"


def test_import_loads_nothing_heavy(run_python):
    """Protects the start-up time: `import fastgd` is NumPy and one extension."""
    done = run_python("import sys, fastgd; print(*{name.split('.')[0] for name in sys.modules})")
    assert "numpy" in done.stdout.split()
    assert HEAVY.isdisjoint(done.stdout.split())


def test_optimizers_load_nothing_heavy(run_python):
    """Protects those who only want an optimizer from needing more than NumPy."""
    done = run_python("import sys, fastgd; fastgd.optim; fastgd.schedules; print(*sys.modules)")
    assert HEAVY.isdisjoint(name.split(".")[0] for name in done.stdout.split())


def test_openmp_is_in_use():
    """Protects from a build that silently runs on one thread."""
    assert Path(fastgd.show_config(mode="dicts")["openmp"]).is_file()


def test_openmp_keeps_its_name():
    """Protects the one pool of threads in a process: a renamed libgomp would bring its own."""
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic"))
    assert [name for name in needed if "omp" in name] == ["libgomp.so.1"]


def test_no_recent_symbols_are_needed():
    """Protects the import where the OpenMP runtime or the C library is older than the builder's."""
    found = re.findall(r"Name: (\w+)_([\d.]+)", readelf("--version-info"))
    assert "GLIBC" in {library for library, _ in found}
    too_new = [f"{k}_{v}" for k, v in found if version(v) > NEWEST.get(k, ())]
    assert not too_new


def test_nothing_but_the_module_is_exported():
    """Protects other extensions in the process from our names."""
    rows = [line.split() for line in readelf("--dyn-syms").splitlines()]
    exported = [row[-1] for row in rows if {"GLOBAL", "DEFAULT"} < {*row} and "UND" not in row]
    assert exported == ["PyInit__core"]
