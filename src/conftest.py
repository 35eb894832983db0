"""Loads the installed fastgd before pytest collects the doctests of this folder.

Otherwise pytest would load the files here beside the installed ones, or make a package of them,
which lacks the compiled core unless the installation is editable. What needs a library that is not
there is left out.
"""

import importlib
import pkgutil

import fastgd

collect_ignore = []
for module in pkgutil.walk_packages(fastgd.__path__, "fastgd."):
    try:
        importlib.import_module(module.name)
    except ImportError:
        collect_ignore.append(module.name.replace(".", "/") + ".py")
