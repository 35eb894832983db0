"""Matrices that map a file: `_paging`, and the estimators over it."""

import mmap

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import fastgd
from fastgd import _paging, train
from fastgd._paging import Windows
from fastgd.linear_model import SGDClassifier, SGDRegressor


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of four segments of 16 rows of 64 float32, and calls of 32 rows."""
    monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", 32 * 64)
    monkeypatch.setattr(_paging, "_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(_paging, "_SEGMENTS", 4)


def on_disk(path, X, mode="r"):
    np.save(path, X)
    return np.load(path, mmap_mode=mode)


@pytest.fixture
def data(rng):
    X = rng.standard_normal((1003, 64), dtype=np.float32)
    return X, (X @ rng.standard_normal(64)).astype(np.float32)


def fitted(X, y, **options):
    options = {"max_iter": 3, "tol": None, "eta0": 1e-3, "random_state": 0} | options
    return SGDRegressor(learning_rate="constant", **options).fit(X, y)


def is_in(runs, row):
    return any(first <= row < last for first, last in runs)


@given(
    n_rows=st.integers(2, 400),
    block=st.integers(2, 40),
    seed=st.integers(1, 2**31 - 1),
    bounds=st.tuples(st.integers(0, 399), st.integers(1, 400)),
)
def test_runs_hold_the_rows_at_their_positions(n_rows, block, seed, bounds):
    """Protects reading ahead: what is trained on has been brought in, and little else."""
    block = min(block, n_rows)
    first = min(bounds[0], n_rows - 1)
    last = min(max(bounds[1], first + 1), n_rows)
    windows = Windows(np.zeros((n_rows, 3), np.float32), block, 1)
    order = np.arange(-(-n_rows // block), dtype=np.int64)
    windows.shuffle(order, windows.segments(order), seed)
    visit = [r for b in order for r in range(b * block, min((b + 1) * block, n_rows))]
    assert sorted(visit) == list(range(n_rows))
    runs = windows._runs(order, first, last)
    assert all(is_in(runs, row) for row in visit[first:last])
    assert sum(end - begin for begin, end in runs) <= last - first + 4 * block


def test_shuffle_mixes_segments_and_blocks(small_windows):
    """Protects the shuffling: a window is made of distant segments, whose blocks are mixed."""
    windows = Windows(np.zeros((16 * 1000, 64), np.float32), 4, 1)
    order = np.arange(4000, dtype=np.int64)
    segments = windows.segments(order)
    windows.shuffle(order, segments, 1)
    once = order.copy()
    assert sorted(once) == list(range(4000))
    window = once[:16]
    assert len(set(window // 4)) == 4  # whole segments
    assert np.ptp(window) > 100
    assert not np.array_equal(np.sort(window), window)
    windows.shuffle(order, segments, 1)
    assert not np.array_equal(order, once)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 5000])
def test_file_in_order_gives_the_bits_of_memory(
    small_windows, tmp_path, data, batch_size, assert_same_bits
):
    """Protects windows: cutting an epoch into them changes nothing."""
    X, y = data
    options = {"shuffle": False, "batch_size": batch_size}
    expected, model = fitted(X, y, **options), fitted(on_disk(tmp_path / "X.npy", X), y, **options)
    assert_same_bits([model.coef_, model.intercept_], [expected.coef_, expected.intercept_])
    assert model.t_ == expected.t_


@pytest.mark.parametrize("shuffle", [True, False, "block"])
def test_file_is_learnt_from(small_windows, tmp_path, data, shuffle):
    """Protects training from a file, in any order: it finds the weights."""
    X, y = data
    X = on_disk(tmp_path / "X.npy", X)
    model = fitted(X, y, shuffle=shuffle, max_iter=20, eta0=5e-3, alpha=0)
    assert model.score(X, y) > 0.999


@pytest.mark.parametrize("n_threads", [1, 3])
def test_without_advice_to_the_system_nothing_changes(
    small_windows, tmp_path, data, n_threads, monkeypatch, assert_same_bits
):
    """Protects other systems and older kernels, which know no such advice, and reproducibility."""
    X, y = data
    X = on_disk(tmp_path / "X.npy", X)
    expected = fitted(X, y, shuffle="block", batch_size=32)
    monkeypatch.setattr(_paging, "_POPULATE_READ", -1)
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    with fastgd.threads(n_threads):
        model = fitted(X, y, shuffle="block", batch_size=32)
    assert_same_bits(model.coef_, expected.coef_)


def test_changes_that_are_in_memory_alone_stay(small_windows, tmp_path, data):
    """Protects the user's data: a page that was changed in a private mapping is never let go."""
    X, y = data
    mapped = on_disk(tmp_path / "X.npy", np.zeros_like(X), mode="c")
    mapped[...] = X
    fitted(mapped, y, shuffle="block")
    assert np.array_equal(mapped, X)


def test_pages_are_let_go(small_windows, tmp_path, data, monkeypatch):
    """Protects the process's memory: each window is asked to leave after its turn."""
    X, y = data
    seen = []
    let_go = _paging._Part.let_go
    monkeypatch.setattr(
        _paging._Part, "let_go", lambda part, run: (seen.append(run), let_go(part, run))
    )
    fitted(on_disk(tmp_path / "X.npy", X), y, shuffle=False, max_iter=1)
    assert seen == [(first, min(first + 16, 1003)) for first in range(0, 1003, 16)]


def test_classes_share_a_file(small_windows, tmp_path, data):
    """Protects one-against-rest over a file: several problems read it at a time."""
    X, y = data
    labels = np.digitize(y, [-3, 3])
    mapped = on_disk(tmp_path / "X.npy", X)
    models = [
        SGDClassifier(
            shuffle="block", max_iter=2, tol=None, random_state=0, n_jobs=n, alpha=0.1
        ).fit(mapped, labels)
        for n in (1, 3)
    ]
    assert np.array_equal(models[0].coef_, models[1].coef_)
    assert models[0].score(mapped, labels) > 0.7


@pytest.mark.parametrize("batch_size", [1, 16])
def test_sparse_files_in_order_give_the_bits_of_memory(
    small_windows, tmp_path, rng, batch_size, assert_same_bits
):
    """Protects CSR on disk: it is read ahead, and learnt from like any other."""
    X = scipy.sparse.random_array((2000, 50), density=0.3, format="csr", rng=rng)
    y = X @ rng.standard_normal(50)
    parts = [
        on_disk(tmp_path / f"{name}.npy", getattr(X, name))
        for name in ("data", "indices", "indptr")
    ]
    mapped = scipy.sparse.csr_array(tuple(parts), shape=X.shape)
    options = {"shuffle": False, "batch_size": batch_size}
    expected, model = fitted(X, y, **options), fitted(mapped, y, **options)
    assert Windows.of(mapped, 2000, train.call_rows(15, batch_size)) is not None
    assert_same_bits([model.coef_, model.intercept_], [expected.coef_, expected.intercept_])


def test_parts_of_a_sparse_matrix(small_windows, tmp_path, rng):
    """Protects CSR on disk: the spans of rows in both its arrays, wherever they lie in the file."""
    X = scipy.sparse.random_array((500, 40), density=0.2, format="csr", rng=rng)
    data, indices = (
        on_disk(tmp_path / f"{n}.npy", a) for n, a in (("data", X.data), ("indices", X.indices))
    )
    mapped = scipy.sparse.csr_array((data, indices, X.indptr), shape=X.shape)
    parts = _paging._parts(mapped)
    assert len(parts) == 2
    for part, array in zip(parts, (X.data, X.indices), strict=True):
        first, last = part._span((100, 200))
        assert part._bytes[first:last].tobytes() == array[X.indptr[100] : X.indptr[200]].tobytes()
    assert Windows.of(X, 16, 1) is None
    assert Windows.of(mapped, 16, 1) is not None
    assert Windows.of(mapped, 1, 1) is None
