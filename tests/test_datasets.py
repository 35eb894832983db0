"""`fastgd.datasets`: what is read, what is left out, what is refused, how it is prepared."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from sklearn.datasets import dump_svmlight_file  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402

from fastgd import _core, datasets  # noqa: E402
from fastgd.datasets import DataError, Table, find_task, prepare, read_table  # noqa: E402

ROWS = 12


def frame() -> Any:
    """A table with something of every kind."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(ROWS, 2)), columns=["width", "height"])
    data["number"] = np.arange(ROWS)
    data["flag"] = data["width"] > 0
    data["colour"] = ["red", "green", "blue"] * (ROWS // 3)
    data["nothing"] = np.nan
    data["price"] = 2 * data["width"] - data["height"]
    data.loc[2, "height"] = np.nan
    data.loc[3, "width"] = np.inf
    data.loc[5, "price"] = np.nan
    return data


def table(X: Any, y: Any) -> Table:
    """A table around two arrays."""
    X = np.asarray(X)
    return Table("made up", X, np.asarray(y), tuple(f"x{j}" for j in range(X.shape[1])), "y")


class TestReading:
    def check(self, read: Table) -> None:
        """Everything about the table of `frame` with target price."""
        kept = frame().drop(index=[2, 3, 5])
        assert read.features == ("width", "height", "number", "flag")
        assert read.not_numeric == ("colour",)
        assert read.empty == ("nothing",)
        assert (read.target, read.n_dropped) == ("price", 3)
        np.testing.assert_allclose(read.X, kept[list(read.features)].to_numpy(float))
        np.testing.assert_allclose(read.y, kept["price"])

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_csv(self, tmp_path: Path, separator: str) -> None:
        path = tmp_path / "shop.csv"
        frame().to_csv(path, index=False, sep=separator)
        read = read_table(path, "price")
        self.check(read)
        assert read.name == "shop.csv"

    def test_parquet(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        path = tmp_path / "shop.parquet"
        frame().convert_dtypes().to_parquet(path)
        self.check(read_table(str(path), "price"))

    def test_text_as_target(self, tmp_path: Path) -> None:
        data = frame()
        data.loc[0, "colour"] = None
        path = tmp_path / "shop.CSV"
        data.drop(columns="price").to_csv(path, index=False)
        read = read_table(path, "colour")
        assert read.n_dropped == 3
        assert list(read.y[:3]) == ["green", "green", "blue"]
        assert find_task(read.y) == "classification"

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
    def test_npz(self, tmp_path: Path, dtype: str) -> None:
        X = np.arange(30).reshape(10, 3).astype(dtype)
        y = np.arange(10.0)
        y[4] = np.nan
        np.savez(tmp_path / "a.npz", X=X, y=y, z=np.array(["a", "b"] * 5))
        read = read_table(tmp_path / "a.npz")
        assert read.X.dtype == (np.float32 if dtype == "float32" else np.float64)
        assert (read.X.shape, read.n_dropped, read.features) == ((9, 3), 1, ("x0", "x1", "x2"))
        assert list(read_table(tmp_path / "a.npz", "z").y) == ["a", "b"] * 5

    @pytest.mark.parametrize("suffix", ["svmlight", "libsvm"])
    def test_svmlight(self, tmp_path: Path, suffix: str) -> None:
        X = np.eye(6, 4)
        dump_svmlight_file(X, np.arange(6), str(tmp_path / f"a.{suffix}"))
        read = read_table(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(read.X, X)
        assert list(read.y) == list(range(6))

    def test_digits(self) -> None:
        assert datasets.digits().X.shape == (1797, 64)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "target", "words"),
        [
            ("shop.csv", None, "--target is missing: which column of width, height"),
            ("shop.csv", "prize", "'prize', which is not a column of shop.csv; did you mean price"),
            ("shop.csv", "zzz", "it has width, height, number"),
            ("shopp.csv", "price", "there is no file .*did you mean shop.csv?"),
            ("no/such/folder.csv", "price", "there is no file"),
            ("shop.txt", "price", r"must end in one of \.csv, \.libsvm"),
            ("folder.csv", "price", "is a folder"),
            ("bytes.csv", "price", "cannot be read as a table of text"),
            ("ragged.csv", "price", "cannot be read as a table of text"),
            ("blank.csv", "price", "cannot be read as a table of text"),
            ("header.csv", "a", "header.csv has no rows"),
            ("none.npz", None, "none.npz has no rows"),
            ("words.csv", "b", r"no column of numbers besides the target \(a hold none\)"),
            ("alone.csv", "a", "no column of numbers besides the target$"),
            ("holes.csv", "b", "all 4 rows of holes.csv have missing values"),
            ("short.csv", "b", "3 complete rows; at least 4"),
            ("bad.parquet", "b", "cannot be read as parquet"),
            ("bad.npz", None, "cannot be read as .npz"),
            ("object.npz", None, "cannot be read as .npz"),
            ("no_x.npz", None, "no_x.npz has no array 'X'; it has y"),
            ("good.npz", "label", "good.npz has no array 'label'; it has X, y"),
            ("flat.npz", None, r"X in flat.npz is float64 of shape \(5,\)"),
            ("complex.npz", None, "X in complex.npz is complex128"),
            ("lengths.npz", None, r"y in lengths.npz has shape \(4,\); it must be \(5,\)"),
            ("times.npz", None, "y in times.npz is datetime64"),
            ("bad.svmlight", None, "cannot be read as svmlight"),
            ("bad.libsvm", "label", "--target is 'label'; .libsvm files name no columns"),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, target: str | None, words: str) -> None:
        frame().to_csv(tmp_path / "shop.csv", index=False)
        (tmp_path / "folder.csv").mkdir()
        for file, text in {
            "shop.txt": "a,b\n",
            "ragged.csv": "a,b\n1,2\n1,2,3\n",
            "blank.csv": "",
            "header.csv": "a,b\n",
            "words.csv": "a,b\nx,1\ny,2\n",
            "alone.csv": "a\n1\n2\n",
            "holes.csv": "a,b\n1,\n,2\n3,\n,4\n",
            "short.csv": "a,b\n1,2\n3,4\n5,6\n",
            "bad.parquet": "no",
            "bad.npz": "no",
            "bad.svmlight": "one two",
            "bad.libsvm": "1 1:1",
        }.items():
            (tmp_path / file).write_text(text)
        (tmp_path / "bytes.csv").write_bytes(b"price,b\n1,\xff\xfe\n")
        X = np.ones((5, 2))
        for file, arrays in {
            "object": {"X": np.array([[1, None]]), "y": X[:, 0]},
            "no_x": {"y": X[:, 0]},
            "good": {"X": X, "y": X[:, 0]},
            "none": {"X": X[:0], "y": X[:0, 0]},
            "flat": {"X": X[:, 0], "y": X[:, 0]},
            "complex": {"X": X * 1j, "y": X[:, 0]},
            "lengths": {"X": X, "y": X[:4, 0]},
            "times": {"X": X, "y": np.zeros(5, "datetime64[s]")},
        }.items():
            np.savez(tmp_path / f"{file}.npz", **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=words):
            read_table(tmp_path / name, target)

    def test_too_large_when_dense(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "wide.svmlight").write_text("1 1000000:1\n" * 5)
        monkeypatch.setattr(datasets, "MAX_DENSE_BYTES", 2**20)
        with pytest.raises(DataError, match=r"5 rows and 1,000,000 columns: .* GiB"):
            read_table(tmp_path / "wide.svmlight")

    @pytest.mark.parametrize("name", ["a.csv", "a.npz"])
    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        (tmp_path / name).write_text("")

        def refuse(*args: Any, **options: Any) -> Any:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        monkeypatch.setattr(np, "load", refuse)
        with pytest.raises(DataError, match=f"{name} cannot be read: Permission denied"):
            read_table(tmp_path / name, "y")

    @pytest.mark.parametrize(
        ("name", "library", "extra"),
        [
            ("a.csv", "pandas", "fastgd[train]"),
            ("a.parquet", "pandas", "fastgd[train]"),
            ("a.svmlight", "sklearn", "fastgd[train]"),
        ],
    )
    def test_missing_library(
        self,
        tmp_path: Path,
        without_library: Callable[[str], None],
        name: str,
        library: str,
        extra: str,
    ) -> None:
        (tmp_path / name).write_text("")
        without_library(library)
        with pytest.raises(DataError, match=f"needs {library}") as caught:
            read_table(tmp_path / name, None if library == "sklearn" else "y")
        assert extra in str(caught.value)

    def test_missing_pyarrow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.parquet").write_text("")
        importing = builtins.__import__

        def fail(name: str, *rest: Any) -> Any:
            if name.startswith(("pyarrow", "fastparquet")):
                raise ModuleNotFoundError(name)
            return importing(name, *rest)

        def read_parquet(path: Path) -> None:
            __import__("pyarrow")

        monkeypatch.setattr(builtins, "__import__", fail)
        monkeypatch.setattr(pd, "read_parquet", read_parquet)
        with pytest.raises(DataError, match="pip install pyarrow"):
            read_table(tmp_path / "a.parquet", "y")


class TestTask:
    @pytest.mark.parametrize(
        ("y", "loss", "task"),
        [
            (np.arange(100) % 20, None, "classification"),
            (np.arange(100) % 20, "huber", "regression"),
            (np.arange(100) % 21, None, "regression"),
            (np.arange(100) % 21, "hinge", "classification"),
            (np.arange(100) % 20 + 0.0, None, "classification"),
            (np.arange(100) % 20 + 0.5, None, "regression"),
            (np.arange(100) % 2 + 0.5, None, "classification"),
            (np.arange(100) % 2 == 0, None, "classification"),
            (np.arange(10), None, "regression"),
            (np.array(["a", "b", "a", "b"]), None, "classification"),
            (np.array(["a", "b", "a", "b"], dtype=object), "huber", "classification"),
        ],
    )
    def test_found(self, y: Any, loss: str | None, task: str) -> None:
        assert find_task(y, loss) == task

    @pytest.mark.parametrize(
        ("y", "loss", "words"),
        [
            (np.ones(5), None, "the target is 1.0 in every row"),
            (np.array(list("abcdef")), None, "6 distinct values in 6 rows: these are no classes$"),
            (np.arange(9), "hinge", "no classes, which --loss hinge needs"),
            (np.arange(90) % 30 + 0.5, "log_loss", "no classes, which --loss log_loss needs"),
        ],
    )
    def test_refused(self, y: Any, loss: str | None, words: str) -> None:
        with pytest.raises(DataError, match=words):
            find_task(y, loss)

    @pytest.mark.parametrize("loss", _core.LOSSES)
    def test_every_loss_fits_a_task(self, loss: str) -> None:
        assert find_task(np.arange(100) % 5, loss) in ("classification", "regression")


class TestPreparing:
    def test_standardised_by_the_training_part(self) -> None:
        rng = np.random.default_rng(1)
        X = rng.normal(2013, 5, (400, 4))
        X[:, 1] = 2013
        y = 100 + 7 * X[:, 0]
        data = prepare(table(X, y), "regression", test_size=0.3, seed=5)
        train, test = train_test_split(np.arange(400), test_size=0.3, random_state=5)
        assert data.X_train.shape == (280, 3)
        assert data.X_train.dtype == data.X_test.dtype == data.y_train.dtype == np.float32
        assert data.features == ("x0", "x2", "x3")
        assert data.constant == ("x1",)
        kept = X[:, [0, 2, 3]]
        mean, deviation = kept[train].mean(axis=0), kept[train].std(axis=0)
        np.testing.assert_allclose(data.X_train, (kept[train] - mean) / deviation, atol=1e-5)
        np.testing.assert_allclose(data.X_test, (kept[test] - mean) / deviation, atol=1e-5)
        np.testing.assert_array_equal(data.y_test, y[test])
        np.testing.assert_allclose(data.y_train * data.scale + data.mean, y[train], rtol=1e-5)

    def test_the_table_is_left_as_it_was(self) -> None:
        X = np.random.default_rng(2).normal(size=(20, 2))
        before = X.copy()
        prepare(table(X, X[:, 0]), "regression")
        np.testing.assert_array_equal(X, before)

    def test_classes_are_numbered_and_stratified(self) -> None:
        y = np.array(["cat", "dog", "dog", "dog"] * 25)
        data = prepare(table(np.random.default_rng(3).normal(size=(100, 2)), y), "classification")
        assert list(data.classes) == ["cat", "dog"]
        assert list(np.bincount(data.y_train)) == [19, 56]
        assert list(np.bincount(data.y_test)) == [6, 19]

    def test_a_class_of_one_row_is_no_obstacle(self) -> None:
        y = np.array([0] * 20 + [1] * 20 + [2])
        data = prepare(table(np.arange(82.0).reshape(41, 2), y), "classification")
        assert len(data.classes) == 3

    @pytest.mark.parametrize(("test_size", "n_test"), [(1e-9, 2), (0.5, 5), (0.999, 8)])
    def test_both_parts_hold_two_rows(self, test_size: float, n_test: int) -> None:
        X = np.arange(20.0).reshape(10, 2)
        data = prepare(table(X, X[:, 0]), "regression", test_size=test_size)
        assert len(data.X_test) == n_test

    @pytest.mark.parametrize(
        ("X", "y", "task", "words"),
        [
            (np.ones((8, 2)), np.arange(8), "regression", "every feature of made up is constant"),
            (np.outer(np.arange(8), [1, 1e300]), np.arange(8), "regression", "'x1' holds numbers"),
            (np.eye(8), [0] * 7 + [1], "classification", "one class only"),
            (np.eye(8), [0.0] * 7 + [1], "regression", "'y' is constant"),
            (np.eye(8), np.arange(8) * 1e300, "regression", "'y' is constant or too large"),
        ],
    )
    def test_refused(self, X: Any, y: Any, task: Any, words: str) -> None:
        # The seed is such that row 7, the only one that differs, is held out.
        order = (train_test_split(np.arange(8), test_size=2, random_state=s) for s in range(99))
        seed = next(s for s, (_, test) in enumerate(order) if 7 in test)
        with pytest.raises(DataError, match=words):
            prepare(table(X, y), task, seed=seed)
