"""`python -m fastgd`: the main job, from the file to the picture, and every way it can fail."""

from __future__ import annotations

import re
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgd
from fastgd import __main__ as command
from fastgd import _core, datasets
from fastgd._hypers import VECTOR_RULES
from fastgd.schedules import SCHEDULES

for library in ("sklearn", "pandas", "matplotlib", "tqdm"):
    pytest.importorskip(library)

from matplotlib.image import imread  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402

from fastgd import linear_model  # noqa: E402


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Report(dict[str, str]):
    """Lines of the report by their first word; `fell` tells whether the loss did."""

    def number(self, line: str, pattern: str) -> float:
        found = re.search(pattern, self[line])
        assert found is not None, self[line]
        return float(found.group(1).replace(",", ""))

    @property
    def fell(self) -> bool:
        losses = re.findall(r"(\S+) \(epoch", self["loss"])
        return float(losses[-1]) < float(losses[0])


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    """Run the command, expect success and return what it reported."""

    def run(*argv: str, code: int = 0) -> Report:
        assert command.main(["train", *argv]) == code
        printed = capsys.readouterr()
        report = Report()
        for line in printed.out.splitlines():
            what, words = line[:9].strip(), line[10:]
            report[what] = f"{report[what]}; {words}" if what in report else words
        report["bar"] = printed.err
        return report

    return run


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command, expect exit code 2 and return the last line of what it said."""

    def run(*argv: str) -> str:
        assert command.main(list(argv)) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("python -m fastgd")
        return said

    return run


def delays(n_rows: int = 20_000, seed: int = 0) -> dict[str, Any]:
    """Columns that resemble delays of flights: collinear, constant, heavy-tailed, with holes."""
    rng = np.random.default_rng(seed)
    hour, minute = rng.integers(5, 24, n_rows), rng.integers(0, 60, n_rows)
    distance = rng.gamma(2, 500, n_rows)
    air = 20 + distance / 8 + rng.normal(0, 8, n_rows)
    late = rng.exponential(25, n_rows) * (rng.random(n_rows) < 0.4) * rng.lognormal(0, 0.8, n_rows)
    arrival = late + air - distance / 8 - 25 + rng.standard_t(3, n_rows) * 8
    arrival[rng.random(n_rows) < 0.03] = np.nan
    return {
        "year": np.full(n_rows, 2013),
        "scheduled": 100 * hour + minute,
        "hour": hour,
        "minute": minute,
        "carrier": rng.choice(["AA", "UA"], n_rows),
        "late": late,
        "air": air,
        "distance": distance,
        "arrival": arrival,
    }


class TestDigits:
    def test_the_main_job(self, train: Callable[..., Report], here: Path) -> None:
        report = train()
        assert report["data"] == "digits: 1,797 rows, 65 columns"
        assert report["task"].startswith("classification into 10 classes: digit from")
        assert report["split"] == "1,347 rows to train on, 450 held out (seed 0)"
        assert report.number("held out", r"accuracy (\S+)") >= 0.95
        assert report.fell
        assert report.number("time", r"([\d,]+) rows/s") > 0
        assert report.number("speed", r": ([\d,.]+) x") > 5
        assert "epoch" in report["bar"]
        assert "loss=" in report["bar"]
        assert report["picture"] == "fastgd-digits-loss.png"
        assert imread(here / "fastgd-digits-loss.png").shape == (750, 1200, 4)

    @pytest.mark.parametrize("seed", range(1, 6))
    def test_other_seeds(self, train: Callable[..., Report], seed: int) -> None:
        report = train("--seed", str(seed))
        assert report.number("held out", r"accuracy (\S+)") >= 0.95

    def test_a_seed_fixes_the_result(self, train: Callable[..., Report]) -> None:
        first, again = train("--epochs", "3"), train("--epochs", "3", "--threads", "1")
        assert first["loss"] == again["loss"]
        assert first["loss"] != train("--epochs", "3", "--seed", "1")["loss"]

    @pytest.mark.parametrize("loss", ["log_loss", "hinge"])
    @pytest.mark.parametrize("optimizer", VECTOR_RULES)
    def test_rules(self, train: Callable[..., Report], loss: str, optimizer: str) -> None:
        report = train("--loss", loss, "--optimizer", optimizer)
        assert report.number("held out", r"accuracy (\S+)") >= 0.92
        assert report["model"].startswith(f"{loss}, {optimizer}, ")

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_options(self, train: Callable[..., Report], schedule: str) -> None:
        report = train(
            *("--lr", "0.02", "--batch-size", "50", "--epochs", "4", "--schedule", schedule),
            *("--optimizer", "sgd", "--threads", "1", "--test-size", "0.4"),
        )
        rate = "" if schedule == "optimal" else " from 0.02"
        assert report["model"] == (
            f"log_loss, sgd, learning rate {schedule}{rate}, batches of 50, 4 epochs, 1 thread"
        )
        assert report["split"].startswith("1,078 rows to train on, 719 held out")
        assert report["loss"].endswith("(epoch 4)")

    def test_numbers_if_the_loss_is_for_numbers(self, train: Callable[..., Report]) -> None:
        report = train("--loss", "squared_error")
        assert report["task"].startswith("regression: digit")
        assert report.number("held out", r"R2 (\S+)") > 0.5

    def test_threads_are_set_back(self, train: Callable[..., Report]) -> None:
        before = fastgd.get_num_threads()
        assert "1 thread" in train("--threads", "1", "--epochs", "1")["model"]
        assert fastgd.get_num_threads() == before

    @pytest.mark.parametrize(
        ("out", "path"),
        [
            ("curve.svg", "curve.svg"),
            ("new/folder", "new/folder/fastgd-digits-loss.png"),
            ("old.d", "old.d/fastgd-digits-loss.png"),
            ("new/picture.png", "new/picture.png"),
        ],
    )
    def test_out(self, train: Callable[..., Report], here: Path, out: str, path: str) -> None:
        (here / "old.d").mkdir()
        assert train("--epochs", "1", "--out", out)["picture"] == path
        assert (here / path).stat().st_size > 1000


class TestFiles:
    @pytest.mark.parametrize("seed", range(3))
    def test_near_least_squares(self, train: Callable[..., Report], here: Path, seed: int) -> None:
        import pandas as pd

        frame = pd.DataFrame(delays(seed=seed))
        frame.to_csv(here / "delays.csv", index=False)
        report = train("delays.csv", "--target", "arrival", "--seed", str(seed))
        missing = int(frame["arrival"].isna().sum())
        assert report["data"] == "delays.csv: 20,000 rows, 9 columns"
        assert report["left out"] == (
            "1 column not numbers: carrier; 1 column the same in every row: year; "
            f"{missing} rows with missing values"
        )
        assert report["task"] == "regression: arrival from 6 features"
        assert report["picture"] == "fastgd-delays-loss.png"

        table = datasets.read_table(here / "delays.csv", "arrival")
        data = datasets.prepare(table, "regression", seed=seed)
        exact = LinearRegression().fit(data.X_train.astype(float), data.y_train)
        best = exact.score(data.X_test.astype(float), (data.y_test - data.mean) / data.scale)
        assert abs(report.number("held out", r"R2 (\S+)") - best) < 0.005

    def test_text_for_classes(self, train: Callable[..., Report], here: Path) -> None:
        import pandas as pd

        frame = pd.DataFrame(delays(500))
        frame["carrier"] = np.where(frame["late"] > 10, "late", "early")
        frame.to_csv(here / "classes.csv", index=False)
        report = train("classes.csv", "--target", "carrier")
        assert report["task"] == "classification into 2 classes: carrier from 7 features"
        assert report.number("held out", r"accuracy (\S+)") > 0.9

    def test_other_kinds(self, train: Callable[..., Report], here: Path) -> None:
        from sklearn.datasets import dump_svmlight_file

        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 4))
        y = X @ [1.0, 2.0, 3.0, 4.0] + 5
        np.savez(here / "a.npz", X=X, y=y, sign=np.sign(X[:, 0]))
        dump_svmlight_file(X, y, str(here / "a.svmlight"))
        for name in ("a.npz", "a.svmlight"):
            assert train(name).number("held out", r"R2 (\S+)") > 0.99
        report = train("a.npz", "--target", "sign")
        assert report.number("held out", r"accuracy (\S+)") > 0.9

    def test_parquet(self, train: Callable[..., Report], here: Path) -> None:
        pytest.importorskip("pyarrow")
        import pandas as pd

        pd.DataFrame(delays(2000)).to_parquet(here / "a.parquet")
        assert train("a.parquet", "--target", "arrival").fell

    def test_many_and_empty_columns(self, train: Callable[..., Report], here: Path) -> None:
        import pandas as pd

        frame = pd.DataFrame({f"text{i}": list("abcdefgh") * 5 for i in range(15)})
        frame["x"], frame["y"], frame["hole"] = np.arange(40.0), np.arange(40.0), np.nan
        frame.to_csv(here / "a.csv", index=False)
        left_out = train("a.csv", "--target", "y")["left out"]
        assert left_out.startswith("15 columns not numbers: text0, text1")
        assert "text11 ...; 1 column empty: hole" in left_out

    def test_constant_held_out_target(self, train: Callable[..., Report], here: Path) -> None:
        y = np.zeros(40)
        y[:5] = 0.5 + np.arange(5)
        X = np.random.default_rng(0).normal(size=(40, 2))
        np.savez(here / "a.npz", X=X, y=y)
        splits = (
            datasets.prepare(datasets.read_table("a.npz"), "regression", test_size=0.05, seed=seed)
            for seed in range(99)
        )
        seed = next(s for s, data in enumerate(splits) if not data.y_test.any())
        report = train("a.npz", "--test-size", "0.05", "--seed", str(seed))
        assert report["held out"].startswith("R2 undefined")


class TestRecipe:
    @pytest.mark.parametrize(
        ("n_rows", "batch_size", "epochs"),
        [
            (10, 16, 100),
            (1347, 16, 94),
            (5000, 64, 100),
            (20_000, 256, 100),
            (250_000, 256, 8),
            (10_000_000, 256, 5),
        ],
    )
    def test_grows_with_the_rows(self, n_rows: int, batch_size: int, epochs: int) -> None:
        recipe = self.recipe(np.broadcast_to(np.float32(0), (n_rows, 3)))
        assert recipe.batch_size == batch_size
        assert recipe.alpha == 1 / n_rows
        assert command.choose_epochs(n_rows, batch_size) == epochs

    @pytest.mark.parametrize("optimizer", VECTOR_RULES)
    def test_steps_shrink_with_the_features(self, optimizer: str) -> None:
        rates = [
            self.recipe(np.zeros((100, columns), np.float32), "--optimizer", optimizer).eta0
            for columns in (1, 10, 100, 1000)
        ]
        assert rates == sorted(rates, reverse=True)
        if optimizer in command._OWN_RATES:
            assert rates[0] == rates[-1] > 0
        else:
            assert rates[0] > rates[-1] > 0

    @staticmethod
    def recipe(X: Any, *argv: str) -> command.Recipe:
        data = datasets.Prepared("regression", X, X[:2], X[:, 0], X[:2, 0], (), (), np.array([]))
        return command.choose_recipe(data, command.make_parser().parse_args(["train", *argv]))


class TestInterrupted:
    @staticmethod
    def after(monkeypatch: pytest.MonkeyPatch, epochs: int, trained: bool = True) -> None:
        """Let Ctrl-C come in the epoch after `epochs` of them."""
        partial_fit = linear_model.SGDClassifier.partial_fit
        calls = 0

        def interrupted(self: Any, *args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls <= epochs or trained:
                partial_fit(self, *args, **options)
            if calls > epochs:
                raise KeyboardInterrupt
            return self

        monkeypatch.setattr(linear_model.SGDClassifier, "partial_fit", interrupted)

    def test_keeps_what_was_trained(
        self, train: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, here: Path
    ) -> None:
        self.after(monkeypatch, 10)
        report = train()
        assert report["stopped"].startswith("by Ctrl-C after 10 of 94 epochs")
        assert report["loss"].endswith("(epoch 10)")
        assert report.number("held out", r"accuracy (\S+)") > 0.9
        assert (here / "fastgd-digits-loss.png").exists()

    @pytest.mark.parametrize("trained", [True, False])
    def test_in_the_first_epoch(
        self, train: Callable[..., Report], monkeypatch: pytest.MonkeyPatch, trained: bool
    ) -> None:
        self.after(monkeypatch, 0, trained)
        report = train(code=130)
        assert report["picture"] == "none: no epoch was finished"
        assert ("held out" in report) is trained

    def test_elsewhere(self, train: Callable[..., Report], monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(*args: Any) -> float:
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "time_reference", interrupted)
        assert "picture" in train("--epochs", "1", code=130)


class TestTrouble:
    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["missing.csv", "--target", "y"], "there is no file missing.csv"),
            (["a.csv"], "--target is missing: which column of first, second"),
            (["a.csv", "--target", "secund"], "did you mean second?"),
            (["text.csv", "--target", "y"], "text.csv has no column of numbers"),
            (["holes.csv", "--target", "y"], "all 4 rows of holes.csv have missing values"),
            (["--target", "y"], "there is no FILE"),
            (["--loss", "squared"], "argument --loss: invalid choice: 'squared'"),
            (["--optimizer", "sophia"], "argument --optimizer: invalid choice: 'sophia'"),
            (["--schedule", "cosine"], "argument --schedule: invalid choice: 'cosine'"),
            (["--lr", "0"], "argument --lr: '0' is not a finite number above 0"),
            (["--lr", "inf"], "argument --lr: 'inf' is not"),
            (["--lr", "fast"], "argument --lr: 'fast' is not"),
            (["--batch-size", "0"], "argument --batch-size: '0' is not a whole number above 0"),
            (["--epochs", "1.5"], "argument --epochs: '1.5' is not a whole number above 0"),
            (["--threads", "-1"], "argument --threads: '-1' is not"),
            (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0"),
            (["--test-size", "1"], "argument --test-size: '1' is not a number between 0 and 1"),
            (["--out", "curve.doc"], "--out is 'curve.doc'; it must be a folder or end in ."),
            (["--out", "a.csv/b.png"], "--out is 'a.csv/b.png', which cannot be made"),
            (["--lr", "1e30"], "Here --lr was 1e+30."),
        ],
    )
    def test_said_in_words(
        self, fail: Callable[..., str], here: Path, argv: list[str], words: str
    ) -> None:
        (here / "a.csv").write_text("first,second\n1,2\n")
        (here / "text.csv").write_text("x,y\na,1\nb,2\n")
        (here / "holes.csv").write_text("x,y\n1,\n,2\n3,\n,4\n")
        assert words in fail("train", *argv)

    def test_no_command(self, fail: Callable[..., str]) -> None:
        assert "COMMAND" in fail()

    @pytest.mark.parametrize("library", ["sklearn", "tqdm", "matplotlib"])
    def test_missing_library(
        self, fail: Callable[..., str], without_library: Callable[[str], None], library: str
    ) -> None:
        without_library(library)
        said = fail("train", "--epochs", "1")
        assert f"needs {library}" in said
        assert 'pip install "fastgd[train]"' in said

    def test_picture_cannot_be_written(
        self, fail: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*args: Any, **options: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("fastgd.plot.loss_curve", full)
        assert "cannot be written: No space left" in fail("train", "--epochs", "1")

    def test_hopeless_training_is_said_once(
        self, train: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        partial_fit = linear_model.SGDClassifier.partial_fit

        def warn(self: Any, *args: Any, **options: Any) -> Any:
            for category in (DeprecationWarning, ConvergenceWarning, ConvergenceWarning):
                warnings.warn(f"{category.__name__}.", category, stacklevel=1)
            return partial_fit(self, *args, **options)

        monkeypatch.setattr(linear_model.SGDClassifier, "partial_fit", warn)
        report = train("--epochs", "2")
        assert report["warning"] == "ConvergenceWarning. Here --lr was 0.3."

    def test_a_slow_case_is_shown_as_one(
        self, train: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(command, "time_reference", lambda data, recipe: 1e12)
        assert train("--epochs", "1")["speed"].endswith(": 0.0 x")


class TestOtherCommands:
    def test_info(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["info"]) == 0
        assert fastgd.__version__ in capsys.readouterr().out

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--version"]) == 0
        assert capsys.readouterr().out == f"fastgd {fastgd.__version__}\n"

    def test_help_names_what_there_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["train", "--help"]) == 0
        said = capsys.readouterr().out
        losses = [name for name, row in _core.LOSSES.items() if row["link"] != "log"]
        for name in (*VECTOR_RULES, *losses, *SCHEDULES, *datasets.READERS):
            assert name in said

    @pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
    def test_as_a_module(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["fastgd", "--version"])
        with pytest.raises(SystemExit) as stop:
            runpy.run_module("fastgd", run_name="__main__")
        assert stop.value.code == 0
        assert fastgd.__version__ in capsys.readouterr().out
