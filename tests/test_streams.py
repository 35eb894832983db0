"""Chunks of files: `streams`, and `_ahead` under it."""

import threading

import numpy as np
import pytest

from fastgd._ahead import ahead
from fastgd.datasets import DataError
from fastgd.linear_model import SGDClassifier
from fastgd.streams import ParquetChunks

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N_ROWS = 1003


@pytest.fixture
def path(tmp_path):
    """A table of row numbers, their halves, and a class; row groups of 100."""
    number = np.arange(N_ROWS)
    table = pyarrow.table(
        {
            "number": number,
            "label": pyarrow.array(np.where(number % 2, "odd", "even")).dictionary_encode(),
            "half": number / 2,
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=100)
    return tmp_path / "t.parquet"


def numbers(chunks):
    return np.concatenate([X[:, 0] for X, _ in chunks])


def test_rows_stay_together(path):
    """Protects the data: features and target of a row belong together after all shuffling."""
    for X, y in ParquetChunks(path, "label", chunk_rows=7):
        assert X.dtype == np.float32
        assert X.flags.c_contiguous
        assert np.array_equal(X[:, 1], X[:, 0] / 2)
        assert np.array_equal(y == "odd", X[:, 0] % 2 == 1)


@pytest.mark.parametrize("chunk_rows", [1, 7, 100, 128, 5000])
def test_each_row_comes_once_an_epoch(path, chunk_rows):
    """Protects the epoch, and that another one has another order."""
    chunks = ParquetChunks(path, "label", chunk_rows=chunk_rows)
    first, second = numbers(chunks), numbers(chunks)
    assert chunks.n_rows == N_ROWS
    assert sorted(first) == sorted(second) == list(range(N_ROWS))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(N_ROWS))
    assert np.array_equal(numbers(ParquetChunks(path, "label", chunk_rows=chunk_rows)), first)


def test_order_of_the_file_and_choice_of_columns(path):
    """Protects shuffle=False and `features`."""
    chunks = ParquetChunks(path, "number", features=["half"], shuffle=False, dtype=np.float64)
    X, y = next(iter(chunks))
    assert chunks.features == ("half",)
    assert np.array_equal(y, np.arange(N_ROWS))
    assert np.array_equal(X[:, 0], y / 2)
    assert X.dtype == np.float64


def test_classifier_learns_from_chunks(path):
    """Protects the purpose: epochs of partial_fit over a file."""
    model = SGDClassifier(random_state=0)
    chunks = ParquetChunks(path, "label", features=["number"], chunk_rows=64)
    for X, y in chunks:
        X = np.column_stack([X % 2, np.ones_like(X)])
        model.partial_fit(X, y, classes=["even", "odd"])
    assert model.score([[0, 1], [1, 1]], ["even", "odd"]) == 1


def test_bad_columns_are_named(path, tmp_path):
    """Protects the messages: what is wrong with which column."""
    with pytest.raises(DataError, match=r"no column \['price'\]"):
        ParquetChunks(path, "price")
    with pytest.raises(DataError, match="features must be numeric columns; 'label' is of type"):
        ParquetChunks(path, "number")
    with pytest.raises(ValueError, match="chunk_rows must be 1 or more; got 0"):
        ParquetChunks(path, "label", chunk_rows=0)
    parquet.write_table(pyarrow.table({"x": [1.0, None], "y": [1, 2]}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match="column 'x' has missing values"):
        list(ParquetChunks(tmp_path / "m.parquet", "y"))


def test_missing_library_names_the_extra(path, without_library):
    """Protects users without pyarrow."""
    without_library("pyarrow")
    with pytest.raises(DataError, match=r'pip install "fastgd\[parquet\]"'):
        ParquetChunks(path, "label")


def test_works_one_ahead_and_no_further():
    """Protects memory and speed: while a result is used, one more is being worked out."""
    started, second = [], threading.Event()

    def work(item):
        started.append(item)
        if item == 1:
            second.set()
        return item

    results = ahead(work, range(5))
    assert next(results) == 0
    assert second.wait(timeout=10)
    assert started == [0, 1]
    assert list(results) == [1, 2, 3, 4]
    assert list(ahead(work, [])) == []


def test_failure_ahead_comes_in_its_turn():
    """Protects errors: the results before it are not lost."""
    results = ahead(lambda x: 1 // x, [1, 0])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
