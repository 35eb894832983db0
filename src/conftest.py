"""Loads the installed fastgd before pytest collects the doctests of this folder.

Otherwise ``python -m pytest src`` would make a package of the files here, which lack the compiled
core unless the installation is editable.
"""

import fastgd  # noqa: F401
