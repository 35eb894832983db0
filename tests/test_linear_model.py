"""Linear models: the C loop does what the specification says, to the last bit everywhere.

In order: `fastgd.reference` to 1e-12 over every choice there is, float32, the same bits whatever
the threads and instruction set, indices beyond 32 bits. The course of training is in
test_linear_model_training.py, what scikit-learn does in test_linear_model_sklearn.py, and what is
refused in test_linear_model_input.py.
"""

import itertools
import pickle
import textwrap
from functools import cache

import numpy as np
import pytest
from linear_models import (
    LOSSES,
    N_ROWS,
    OPTIMIZERS,
    SCHEDULES,
    all_params,
    classes_of,
    fit_by_reference,
    make_data,
    make_model,
    name_of,
    params_of,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

import fastgd
from fastgd import _core, reference, train
from fastgd.linear_model import SGDClassifier

SHUFFLES = [True, False, "block"]
# at both sides of a vector of 8 (float64) or 16 (float32) lanes, several vectors, many
N_FEATURES = [1, 2, 7, 8, 9, 15, 16, 17, 63, 65, 200]
# around a chunk of 64 rows, and around all rows
BATCH_SIZES = [1, 2, 7, 64, 65, N_ROWS, N_ROWS + 9]


def assert_follows_reference(model, X, y, sample_weight=None, rtol=1e-12):
    model.fit(X, y, sample_weight=sample_weight)
    params, curve = fit_by_reference(model, X, y, sample_weight)
    assert_allclose(params_of(model), params, rtol=0, atol=rtol * np.abs(params).max())
    assert_allclose(model.loss_curve_, curve, rtol=rtol)
    assert model.coef_.dtype == X.dtype
    assert model.intercept_.dtype == X.dtype


# ---- the C loop is the reference -----------------------------------------------------------------


def cases():
    """Two sets of cases that share the axes between them, each a full grid.

    The grid of shapes and rules draws the other parameters at random, and the grid of those draws
    shape and rule, so that any two axes meet in every combination.
    """
    rng = np.random.default_rng(1)
    names = ["loss", "learning_rate", "shuffle", "fit_intercept", "penalty", "weighted"]
    settings = list(
        itertools.product(LOSSES, SCHEDULES, SHUFFLES, [True, False], ["l2", None], [True, False])
    )
    shapes = list(itertools.product(N_FEATURES, BATCH_SIZES, OPTIMIZERS))
    pairs = [(settings[rng.integers(len(settings))], shape) for shape in shapes]
    pairs += [(setting, shapes[rng.integers(len(shapes))]) for setting in settings]
    cases = []
    for setting, (n_features, batch_size, optimizer) in pairs:
        case = dict(zip(names, setting, strict=True))
        case.update(batch_size=batch_size, optimizer=optimizer)
        label = "-".join(name_of(value) for value in (n_features, *case.values()))
        cases.append(pytest.param(n_features, case, id=label))
    return cases


# some of these rates are too high for Adam, and are said to be
@pytest.mark.filterwarnings("ignore:training ended:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("n_features", "case"), cases())
def test_training_follows_the_reference(n_features, case):
    """Protects the main job: loss, schedule, order, batch, rule, penalty, weights, row width."""
    case = dict(case)
    X, y = make_data(N_ROWS, n_features, case["loss"])
    weighted = case.pop("weighted")
    weights = np.random.default_rng(3).choice([0.0, 0.5, 1.0, 2.5], N_ROWS) if weighted else None
    assert_follows_reference(make_model(**case), X, y, weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_an_intercept_that_is_not_fitted_stays(optimizer):
    """Protects fit_intercept=False: neither gradient nor weight decay touch a given intercept."""
    X, y = make_data(N_ROWS, 9, "huber")
    for batch_size in (1, 7):
        model = make_model("huber", optimizer=optimizer, batch_size=batch_size, fit_intercept=False)
        model.fit(X, y, intercept_init=0.7)
        assert model.intercept_ == 0.7
        assert model.coef_.all()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_corner_of_the_hinge_counts(batch_size):
    """Protects the derivative at a margin of exactly 1, which is scikit-learn's: not zero."""
    X, y = np.array([[1.0], [-1.0]]), [1, 0]
    model = make_model("hinge", penalty=None, batch_size=batch_size, shuffle=False, max_iter=1)
    model.set_params(learning_rate="constant", eta0=0.25).fit(X, y, coef_init=[1.0])
    assert model.coef_ > 1.0


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_penalty_too_strong_for_the_rate(batch_size):
    """Protects plain sgd's shrinking: to zero, not beyond."""
    X, y = make_data(N_ROWS, 20, "huber")
    model = make_model("huber", alpha=5.0, eta0=0.5, batch_size=batch_size)
    assert_follows_reference(model.set_params(learning_rate="constant"), X, y)


def test_blocks_are_as_long_as_memory_likes_them():
    """Protects shuffle="block": at least 16 rows and a page of 4096 bytes, at most all rows."""
    for n_features, itemsize, rows in [(20, 4, 51), (20, 8, 25), (784, 4, 16), (1, 8, 512)]:
        assert train.block_rows(10_000, n_features, itemsize, "block") == rows
    assert train.block_rows(11, 20, 4, "block") == 11
    assert train.block_rows(10_000, 20, 4, True) == 1
    assert train.block_rows(10_000, 20, 4, False) == 10_000


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("n_features", [1, 2, 3, 7])
def test_rows_at_the_very_start_are_read_right(n_features, batch_size):
    """Protects rows shorter than a vector with no row, or few, in memory before them."""
    for n_rows, dtype in itertools.product(range(1, 20), [np.float64, np.float32]):
        X, y = make_data(n_rows, n_features, "huber", seed=n_rows, dtype=dtype)
        model = make_model("huber", batch_size=batch_size, learning_rate="constant")
        assert_follows_reference(model, X, y, rtol=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_losses_are_summed_over_many_segments(loss, shuffle):
    """Protects training over more rows than the loop keeps predictions of at a time (256)."""
    X, y = make_data(601, 20, loss)
    model = make_model(loss, learning_rate="invscaling", shuffle=shuffle)
    assert_follows_reference(model, X, y, np.linspace(0, 2, 601))


def test_batches_of_more_rows_than_chunks_hold():
    """Protects batches whose chunks have to grow: more than 256 chunks of 64 rows."""
    X, y = make_data(20_011, 2, "squared_error")
    model = make_model("squared_error", batch_size=16_500, learning_rate="constant", eta0=0.5)
    assert_follows_reference(model, X, y)


def test_a_batch_size_beyond_all_integers_is_all_rows(assert_same_bits):
    """Protects "full batch" written as a very large number."""
    X, y = make_data(N_ROWS, 5, "huber")
    large = make_model("huber", batch_size=10**30).fit(X, y)
    whole = make_model("huber", batch_size=N_ROWS).fit(X, y)
    assert_same_bits(all_params(large), all_params(whole))


def test_rows_wider_than_the_first_level_cache():
    """Protects rows so wide that fewer than four fit into the cache at a time."""
    X, y = make_data(13, 7001, "log_loss")
    for batch_size in (1, 6):
        model = make_model("log_loss", batch_size=batch_size, learning_rate="constant", eta0=1.0)
        assert_follows_reference(model, X, y)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("batch_size", [1, 7])
def test_an_epoch_in_many_calls(monkeypatch, shuffle, batch_size):
    """Protects what an epoch of a large X is: stretches that start anywhere in the order.

    A stretch may start within a block, and the last block, which is shorter, may come anywhere.
    """
    monkeypatch.setattr(train, "_ELEMENTS_PER_CALL", 400)
    for seed, optimizer in itertools.product(range(4), ["sgd", "adam"]):
        X, y = make_data(N_ROWS, 20, "log_loss")
        model = make_model(
            "log_loss",
            shuffle=shuffle,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate="invscaling",
            random_state=seed,
            max_iter=3,
        )
        assert_follows_reference(model, X, y)


@pytest.mark.parametrize("loss", ["log_loss", "squared_error"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_partial_fit_is_one_epoch_of_the_reference(optimizer, loss):
    """Protects going on: weights, the rule's states and the count of updates carry over."""
    X, y = make_data(N_ROWS, 9, loss)
    once = make_model(loss, optimizer=optimizer, learning_rate="invscaling", batch_size=4)
    once.set_params(max_iter=3, shuffle=False).fit(X, y)
    steps = clone(once)
    options = {"classes": [-1.0, 1.0]} if loss == "log_loss" else {}
    for _ in range(3):
        steps.partial_fit(X, y, **options)
    for a, b in zip(all_params(steps), all_params(once), strict=True):
        assert_array_equal(a, b)
    assert (steps.n_iter_, once.n_iter_) == (1, 3)
    assert steps.t_ == once.t_ == 3 * -(-N_ROWS // 4) + 1


def test_one_against_the_rest_is_one_reference_each():
    """Protects more than two classes: each has its own targets, weights and order of rows."""
    X, _ = make_data(N_ROWS, 9, "hinge")
    y = np.digitize(X[:, 0] + 0.5 * X[:, 1], [-0.2, 0.1])
    model = make_model("log_loss", batch_size=5, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    model.fit(X, y)
    curves = []
    for k, seed in enumerate(model._draw(3)[0]):
        w, b, curve = reference.train_linear(
            X.tolist(),
            np.where(y == k, 1.0, -1.0).tolist(),
            [0.0] * 9,
            0.0,
            loss="log_loss",
            alpha=model.alpha,
            max_iter=2,
            seed=seed,
            learning_rate="optimal",
            batch_size=5,
            sample_weight=np.where(y == k, model.class_weight[k], 1.0).tolist(),
        )
        curves.append(curve)
        assert_allclose(model.coef_[k], w, rtol=1e-11)
        assert_allclose(model.intercept_[k], b, rtol=1e-11)
    assert_allclose(model.loss_curve_, np.mean(curves, axis=0), rtol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
@pytest.mark.parametrize("loss", LOSSES)
def test_float32_is_near_the_reference(loss, optimizer, batch_size):
    """Protects the float32 kernels: what they do differs from float64 by rounding alone."""
    if (loss, optimizer, batch_size) == ("perceptron", "rprop", 1):
        pytest.skip("weights near zero: signs of predictions are those of rounding errors")
    for n_features in (5, 15, 16, 17, 40):
        X, y = make_data(N_ROWS, n_features, loss, dtype=np.float32)
        model = make_model(loss, optimizer=optimizer, batch_size=batch_size, shuffle="block")
        assert_follows_reference(model.set_params(learning_rate="constant"), X, y, rtol=2e-5)


# ---- same bits -----------------------------------------------------------------------------------


def models_for_bits(dtype):
    """Models, and their data, of enough work for a team of threads; and some that are serial."""
    adamw, nesterov = "adamw", ("sgd", {"momentum": 0.9, "nesterov": True})
    for loss, n_rows, n_features, batch_size, optimizer, n_classes in [
        ("log_loss", 3001, 50, 1000, "sgd", 2),
        ("hinge", 3001, 50, 1000, adamw, 2),
        ("squared_error", 3001, 17, 3001, nesterov, 0),
        ("huber", 700, 300, 257, adamw, 0),
        ("huber", 70_001, 3, 40_000, "sgd", 0),
        ("log_loss", 3001, 50, 500, adamw, 3),
        ("log_loss", 1001, 20, 1, "sgd", 3),
        ("squared_error", 1001, 5, 1, nesterov, 0),
        ("hinge", 501, 9, 7, "sgd", 2),
    ]:
        X, y = make_data(n_rows, n_features, loss, dtype=dtype)
        y = classes_of(X, n_classes) if n_classes else y
        model = make_model(loss, batch_size=batch_size, optimizer=optimizer, max_iter=5)
        yield model.set_params(shuffle="block", learning_rate="invscaling"), X, y


@cache
def bits_of_one_thread(dtype):
    """What the first instruction set makes of the models, with one thread."""
    isa = _core.active_isa()
    _core.use_isa(_core.SUPPORTED_ISAS[0])
    with fastgd.threads(1):
        results = [all_params(model.fit(X, y)) for model, X, y in models_for_bits(dtype)]
    _core.use_isa(isa)
    return results


def test_threads_and_instruction_sets_do_not_change_a_bit(isa, dtype, n_threads, assert_same_bits):
    """Protects reproducibility: the sum of a batch has one order, whoever computes it."""
    expected = bits_of_one_thread(dtype)
    for (model, X, y), bits in zip(models_for_bits(dtype), expected, strict=True):
        assert_same_bits(all_params(model.fit(X, y)), bits)


def test_the_models_for_bits_get_threads(run_python):
    """Protects the test above: that there are several threads to differ."""
    code = """
        import os, sys
        import numpy as np
        import fastgd
        from fastgd.linear_model import SGDRegressor
        if not os.path.exists("/proc/self/task"):
            sys.exit("no /proc to count threads with")
        model = SGDRegressor(batch_size=1000, max_iter=2, tol=None)
        X = np.random.default_rng(0).standard_normal((3001, 50))
        fastgd.set_num_threads(1)
        model.fit(X, X[:, 0])
        before = len(os.listdir("/proc/self/task"))
        fastgd.set_num_threads(3)
        model.fit(X, X[:, 0])
        print(len(os.listdir("/proc/self/task")) - before)
    """
    done = run_python(textwrap.dedent(code), check=False)
    if "no /proc" in done.stderr:
        pytest.skip(done.stderr)
    expected = 2 if fastgd.show_config("dicts")["openmp"] else 0
    assert (done.stdout.strip(), done.stderr) == (str(expected), "")


def test_every_run_is_the_same(assert_same_bits):
    """Protects reproducibility: with threads, a second run and other threads beside it."""
    with fastgd.threads(4):
        for model, X, y in models_for_bits(np.dtype("float64")):
            once = all_params(model.fit(X, y))
            again = clone(model).fit(X, y)
            assert_same_bits(all_params(again), once)
            if isinstance(model, SGDClassifier) and len(model.classes_) > 2:
                together = clone(model).set_params(n_jobs=2).fit(X, y)
                assert_same_bits(all_params(together), once)
                together.set_params(n_jobs=-1).fit(X, y)
                assert_same_bits(all_params(together), once)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=name_of)
def test_a_pickled_model_goes_on_the_same(optimizer, dtype, assert_same_bits):
    """Protects checkpoints: the states of the rule are part of them."""
    X, y = make_data(N_ROWS, 9, "huber", dtype=dtype)
    model = make_model("huber", optimizer=optimizer, batch_size=7).fit(X, y)
    copy = pickle.loads(pickle.dumps(model))
    assert_same_bits(copy.predict(X), model.predict(X))
    for _ in range(2):
        assert_same_bits(all_params(copy.partial_fit(X, y)), all_params(model.partial_fit(X, y)))
    assert copy.t_ == model.t_


# ---- more elements than 32 bits can count --------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 16])
def test_indices_beyond_32_bits(tmp_path, batch_size, assert_same_bits):
    """Protects large data: rows x columns > 2^31, in a file of which a few pages exist."""
    n_rows, n_features, n = 2**21, 1100, 50
    try:
        X = np.memmap(tmp_path / "X", np.float32, "w+", shape=(n_rows, n_features))
    except OSError as error:
        pytest.skip(f"no room for a sparse file: {error}")
    small, small_y = make_data(n, n_features, "log_loss", dtype=np.float32)
    X[-n:] = small
    y = np.zeros(n_rows, np.float32)
    y[-n:] = small_y
    order = np.arange(n_rows)
    order[[0, -1]] = order[[-1, 0]]  # the last row comes first
    small_order = np.arange(n)
    results = []
    for data, targets, visits, stretches in [
        (X, y, order, [(0, 1), (n_rows - n, n_rows - 1)]),
        (small, small_y, small_order, [(n - 1, n), (0, n - 1)]),
    ]:
        params = np.zeros(n_features + 1, np.float32)
        losses = [
            _core.train_linear(
                params,
                (None,),
                data,
                targets,
                None,
                visits,
                1,
                _core.scratch(data, batch_size),
                loss=_core.LOSSES["log_loss"]["number"],
                loss_parameter=0.0,
                alpha=0.0,
                fit_intercept=True,
                rule=_core.RULES["sgd"]["number"],
                hypers=[0.0] * 6,
                lr=np.full(n, 0.5),
                kept=np.zeros(_core.N_KEPT),
                t=0,
                batch_size=batch_size,
                start=start,
                stop=stop,
            )
            for start, stop in stretches
        ]
        results.append([params, np.array(losses)])
    assert_same_bits(results[0], results[1])
    assert params.any()
