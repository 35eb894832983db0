"""Training a network asks the system for no memory, however many batches a call has."""

import os
import shutil
import subprocess
import sys

import pytest

COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static long calls;
long calls_so_far(void) { return calls; }
void *malloc(size_t n) { __atomic_add_fetch(&calls, 1, 5); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { __atomic_add_fetch(&calls, 1, 5); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { __atomic_add_fetch(&calls, 1, 5); return __libc_realloc(p, n); }
"""

SCRIPT = """
import ctypes
import numpy as np
import scipy.sparse
import fastgd
from fastgd.nn import Dense, Network
from fastgd.optim import Adam

calls = ctypes.CDLL(None).calls_so_far
X = np.random.default_rng(0).standard_normal((4096, 40)).astype(np.float32)
y = X[:, :3].copy()
layers = [
    Dense(512, "gelu", norm="batch", dropout=0.1),
    Dense(512, "relu", norm="layer", skip=True),
    Dense(3),
]
sparse = scipy.sparse.csr_array(X * (X > 0.5))
for rows, options in ((X, {}), (X, {"max_norm": 1.0}), (fastgd._core.CSR(sparse), {})):
    net = Network(40, layers, rng=0)
    given = {"batch_size": 8, "stepper": Adam(net.parameters, **options), "n_threads": 2}
    order = np.arange(4096)
    assert calls() > 1000  # it counts
    counts = []
    for n in (512, 512, 4, 512):
        before = calls()
        net._core.run(rows, y, None, order, stop=8 * n, **given)
        counts.append(calls() - before)
    assert counts[2] <= counts[3] <= counts[2] + 2, counts  # Python's own lists may grow
"""


def test_no_allocation_within_a_call(tmp_path):
    if shutil.which("cc") is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and glibc")
    if os.environ.get("LD_PRELOAD"):
        pytest.skip("another library stands in for malloc, as under a sanitizer")
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    built = subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], capture_output=True)
    if built.returncode:
        pytest.skip("the C library is not glibc")
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env=environment)
