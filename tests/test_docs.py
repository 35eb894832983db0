"""The documentation that is made from the code."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not beside the tests")
def test_table_of_rules_is_up_to_date():
    """Protects readers from a rule, an option or a formula that the code no longer has."""
    made = runpy.run_path(str(DOCS / "make_optimizers.py"))["table"]()
    assert (DOCS / "optimizers.md").read_text(encoding="utf-8") == made
