"""The documentation that is made from the code, and the code that is in it."""

import doctest
import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not beside the tests")
def test_table_of_rules_is_up_to_date():
    """Protects readers from a rule, an option or a formula that the code no longer has."""
    made = runpy.run_path(str(DOCS / "make_optimizers.py"))["table"]()
    assert (DOCS / "optimizers.md").read_text(encoding="utf-8") == made


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not beside the tests")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_rule_of_ones_own_runs_as_it_stands(tmp_path, monkeypatch):
    """Protects who copies the page: its function compiles, its Python does what it says."""
    page = (DOCS / "own_rule.md").read_text(encoding="utf-8")
    blocks = {kind: [] for kind in ("c", "console", "python")}
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        blocks[kind].append(block)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agreeing.c").write_text(*blocks["c"])
    subprocess.run(shlex.split(*blocks["console"]), check=True)
    test = doctest.DocTestParser().get_doctest("".join(blocks["python"]), {}, "own_rule", None, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
