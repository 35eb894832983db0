"""`fastgd.config` and the package itself: threads and why, what a build says, what import costs."""

import importlib
import os
import sys

import numpy as np
import pytest

import fastgd
from fastgd import _core, config

# ---- the package ---------------------------------------------------------------------------------


def test_import_is_light(run_python):
    """Protects start-up time: NumPy and the one extension, the rooms when they are first named."""
    heavy = ["scipy", "sklearn", "torch", "matplotlib", "pandas", "tqdm", "pyarrow", "joblib"]
    code = f"""
import sys, fastgd
assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)
rooms = {{name for name in sys.modules if name.startswith("fastgd.")}}
assert rooms == {{"fastgd._core", "fastgd.config"}}, rooms
import fastgd.optim, fastgd.schedules, fastgd.reference
import numpy as np
fastgd.optim.SGD(np.ones(2)).step(np.ones(2))
assert not set({heavy}) & set(sys.modules), set({heavy}) & set(sys.modules)
"""
    run_python(code)


@pytest.mark.parametrize("room", fastgd._ROOMS)
def test_rooms_load_when_they_are_named(room, monkeypatch):
    """Protects ``fastgd.optim`` after a plain ``import fastgd``."""
    if room in ("linear_model", "datasets"):
        pytest.importorskip("sklearn")
    if room == "torch":
        pytest.importorskip("torch")
    monkeypatch.delattr(fastgd, room, raising=False)
    assert getattr(fastgd, room) is importlib.import_module(f"fastgd.{room}")


def test_public_names():
    """Protects completion, and ``from fastgd import *``: what is promised is there."""
    assert dir(fastgd) == sorted(fastgd.__all__)
    assert set(fastgd._ROOMS) < set(fastgd.__all__)
    for name in set(fastgd.__all__) - set(fastgd._ROOMS):
        assert hasattr(fastgd, name)


def test_unknown_names_are_attribute_errors():
    """Protects ``hasattr`` and the spelling: a lazy package is a module like any other."""
    with pytest.raises(AttributeError, match=r"^module 'fastgd' has no attribute 'optin'$"):
        fastgd.optin  # noqa: B018


def test_versions_agree():
    """Protects the version from being two: C's, and that of the installed package."""
    metadata = importlib.import_module("importlib.metadata")
    assert fastgd.__version__ == _core.__version__ == metadata.version("fastgd")


# ---- what a build says ---------------------------------------------------------------------------


def test_openmp_is_there():
    """Protects speed: a build without OpenMP runs, but is not to be released."""
    build = _core.build_info()
    assert build["openmp"] is True, "built without OpenMP"
    assert build["openmp_max_threads"] >= 1
    assert os.path.exists(build["openmp_file"])


def test_show_config_as_a_dict():
    """Protects reports of problems: all that one has to know, in one call."""
    shown = config.show_config(mode="dicts")
    assert shown["version"] == fastgd.__version__
    assert shown["compiler"].split()[0] in ("gcc", "clang", "msvc")
    assert shown["isa"] in shown["isas supported"]
    assert shown["isas built"] == list(_core.ISAS)
    assert shown["isas supported"] == list(_core.SUPPORTED_ISAS)
    assert shown["openmp"] == _core.build_info()["openmp_file"]
    assert shown["threads"] == fastgd.get_num_threads()
    assert "SciPy" in shown["blas"]


def test_show_config_prints_the_same(capsys):
    """Protects what one reads: a line for each entry, lists with commas."""
    assert fastgd.show_config() is None
    lines = capsys.readouterr().out.splitlines()
    shown = config.show_config(mode="dicts")
    width = max(map(len, shown)) + 2
    assert [line[:width].strip() for line in lines] == list(shown)
    printed = {line[:width].strip(): line[width:] for line in lines}
    assert printed["isas built"] == ", ".join(_core.ISAS)
    assert printed["threads"] == str(shown["threads"])


def test_show_config_refuses_another_mode():
    """Protects from a misspelt mode that prints and returns nothing."""
    with pytest.raises(ValueError, match=r'^mode must be "stdout" or "dicts"; got \'json\'$'):
        fastgd.show_config(mode="json")


def test_build_without_openmp_says_so(monkeypatch):
    """Protects who wonders why it is slow: one thread, and the reason in words."""
    monkeypatch.setattr(_core, "build_info", lambda: {"compiler": "cc", "openmp": False})
    assert config._default_threads() == (1, "built without OpenMP")
    assert config.show_config(mode="dicts")["openmp"] == "none: built without OpenMP"


# ---- the number of threads: the user's choice ----------------------------------------------------


def test_set_num_threads():
    """Protects the setting and its reason."""
    for n in (1, np.int64(3), 2):
        fastgd.set_num_threads(n)
        assert fastgd.get_num_threads() == n
        assert type(fastgd.get_num_threads()) is int
    assert config.show_config(mode="dicts")["threads because"] == "set_num_threads"


def test_threads_restores_what_was_before():
    """Protects what follows a ``with``, also an inner one and one that an exception leaves."""
    fastgd.set_num_threads(2)
    with fastgd.threads(4):
        assert fastgd.get_num_threads() == 4
        assert config.show_config(mode="dicts")["threads because"] == "threads"
        with fastgd.threads(1):
            assert fastgd.get_num_threads() == 1
        assert fastgd.get_num_threads() == 4
        with pytest.raises(KeyError), fastgd.threads(3):
            raise KeyError
        assert fastgd.get_num_threads() == 4
    assert fastgd.get_num_threads() == 2
    assert config.show_config(mode="dicts")["threads because"] == "set_num_threads"


BAD_NUMBERS = [
    (0, ValueError),
    (-1, ValueError),
    (4097, ValueError),
    (10**30, ValueError),
    (2.0, TypeError),
    ("2", TypeError),
    (None, TypeError),
    (True, TypeError),
    (np.array([1, 2]), TypeError),
    (np.float64(2), TypeError),
]


@pytest.mark.parametrize(("n", "error"), BAD_NUMBERS, ids=[repr(n) for n, _ in BAD_NUMBERS])
def test_bad_numbers_of_threads_are_refused_and_change_nothing(n, error):
    """Protects the setting from what is no number of threads, by name."""
    fastgd.set_num_threads(2)
    for use in (fastgd.set_num_threads, lambda n: fastgd.threads(n).__enter__()):
        with pytest.raises(error, match=r"^n must be a"):
            use(n)
        assert fastgd.get_num_threads() == 2


# ---- the number of threads: the default ----------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Function to pretend a machine: CPUs that may be used, quota of the control group."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def pretend(cpus, quota):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
        monkeypatch.setattr(config, "_cgroup_quota", lambda: quota)

    return pretend


def test_default_is_the_affinity_or_a_smaller_quota(machine):
    """Protects containers: threads beyond what the process gets only wait for each other."""
    machine(8, None)
    assert config._default_threads() == (8, "CPUs that this process may run on")
    machine(8, 3)
    assert config._default_threads() == (3, "CPU quota of the control group")
    machine(3, 3)
    assert config._default_threads() == (3, "CPUs that this process may run on")
    machine(2, 3)
    assert config._default_threads() == (2, "CPUs that this process may run on")


@pytest.mark.parametrize(
    ("value", "threads"),
    [("3", 3), (" 5 ", 5), ("4,2", 4), ("64", 64), ("99999999999999999999", 4096)],
)
def test_omp_num_threads_comes_first(machine, monkeypatch, value, threads):
    """Protects the standard variable, a list of levels included, over what the machine has."""
    machine(8, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert config._default_threads() == (threads, "OMP_NUM_THREADS")


@pytest.mark.parametrize("value", ["", "0", "-2", "many", "2.5", ",4", "²"])
def test_meaningless_omp_num_threads_is_ignored(machine, monkeypatch, value):
    """Protects import: OpenMP ignores such values too."""
    machine(8, None)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert config._default_threads() == (8, "CPUs that this process may run on")


def test_default_without_affinity(machine, monkeypatch):
    """Protects systems that have no affinity mask, or do not know their CPUs."""
    machine(8, None)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert config._default_threads()[0] == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert config._default_threads()[0] == 1


@pytest.mark.parametrize("value", ["1", "3"])
def test_default_holds_in_a_new_process(run_python, value):
    """Protects the whole way: variable, number in force, and what is said about it."""
    code = (
        "import fastgd; c = fastgd.show_config(mode='dicts'); "
        "print(fastgd.get_num_threads(), c['threads'], c['threads because'])"
    )
    shown = run_python(code, OMP_NUM_THREADS=value).stdout.split()
    assert shown == [value, value, "OMP_NUM_THREADS"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity mask")
def test_affinity_of_a_new_process_counts(run_python):
    """Protects ``taskset`` and batch systems, which give a process a part of the machine."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "import fastgd; print(fastgd.get_num_threads())"
    )
    assert run_python(code).stdout.strip() == "1"


# ---- the quota of the control group --------------------------------------------------------------


def control_groups(root, membership, **files):
    """Write the files that a kernel would show below `root`."""
    path = root / "proc/self/cgroup"
    path.parent.mkdir(parents=True)
    path.write_text(membership)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return config._cgroup_quota(root)


V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/a\n3:memory:/docker/a\n1:name=systemd:/docker/a\n"


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # rounded up: 1.5 CPUs keep two threads busy most of the time
        ("5000 100000\n", 1),
        ("max 100000\n", None),
        ("nonsense\n", None),
        ("", None),
    ],
)
def test_quota_of_version_2(tmp_path, text, quota):
    """Protects containers of today."""
    assert control_groups(tmp_path, "0::/\n", **{"cpu.max": text}) == quota


@pytest.mark.parametrize(
    ("quota_us", "quota"), [("400000", 4), ("250000", 3), ("1000", 1), ("-1", None), ("", None)]
)
def test_quota_of_version_1(tmp_path, quota_us, quota):
    """Protects containers of old, whose own group looks like the root from inside."""
    files = {"cpu/cpu.cfs_quota_us": quota_us, "cpu/cpu.cfs_period_us": "100000\n"}
    assert control_groups(tmp_path, V1, **files) == quota


def test_quota_of_another_controller_does_not_count(tmp_path):
    """Protects from a number that is not about CPU time: only the cpu controller is asked."""
    files = {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}
    membership = "12:cpuset:/a\n3:memory,name=cpu:/a\n1:cpu:/b\n"
    assert control_groups(tmp_path, membership, **files) is None


def test_quota_of_a_group_below_the_root(tmp_path):
    """Protects services outside containers: the path leads to the group, both versions."""
    files = {"user/a/cpu.max": "300000 100000", "b/cpu.max": "100000 100000"}
    assert control_groups(tmp_path / "2", "0::/user/a\n", **files) == 3
    files = {"cpu/docker/a/cpu.cfs_quota_us": "300000", "cpu/docker/a/cpu.cfs_period_us": "100000"}
    assert control_groups(tmp_path / "1", V1, **files) == 3


def test_smallest_quota_on_the_way_counts(tmp_path):
    """Protects nested groups: a group has no more than the groups that it is in."""
    files = {
        "cpu.max": "max 100000",
        "system/cpu.max": "200000 100000",
        "system/service/cpu.max": "max 100000",
        "system/service/job/cpu.max": "400000 100000",
    }
    assert control_groups(tmp_path, "0::/system/service/job\n", **files) == 2


def test_no_control_groups(tmp_path):
    """Protects other systems: no files, no limit."""
    assert config._cgroup_quota(tmp_path) is None
    assert control_groups(tmp_path, "0::/\n") is None


def test_quota_of_this_process_is_sane():
    """Protects the real thing, whatever it is here."""
    quota = config._cgroup_quota()
    assert quota is None or quota >= 1


# ---- teams ---------------------------------------------------------------------------------------

COUNT = """
import os
import numpy as np
import fastgd
from fastgd.optim import SGD

w = np.linspace(0.0, 1.0, 400_000)
opt = SGD(w, lr=0.5, momentum=0.5)

def started(step=opt.step):
    "How many threads a step starts."
    before = len(os.listdir("/proc/self/task"))
    step(w + 1.0)
    return len(os.listdir("/proc/self/task")) - before
"""
needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="the system does not list a process's threads"
)


@needs_proc
def test_steps_use_the_threads_they_are_given(run_python):
    """Protects parallel speed: a team of the size asked for, and none for small work."""
    code = (
        COUNT
        + """
small = SGD(np.ones(100))
fastgd.set_num_threads(4)
assert started(lambda _: small.step(np.ones(100))) == 0
fastgd.set_num_threads(1)
assert started() == 0
fastgd.set_num_threads(3)
assert started() == 2, "the team has another size"
"""
    )
    run_python(code, OPENBLAS_NUM_THREADS="1")


@needs_proc
def test_threadpool_limits_govern_us(run_python):
    """Protects nested parallelism: who limits OpenMP through threadpoolctl limits our kernels."""
    pytest.importorskip("threadpoolctl")
    code = (
        COUNT
        + """
from threadpoolctl import threadpool_info, threadpool_limits
assert any(pool["user_api"] == "openmp" for pool in threadpool_info())
assert fastgd.get_num_threads() == 4
with threadpool_limits(1):
    assert fastgd.get_num_threads() == 1
    assert fastgd.show_config(mode="dicts")["threads because"] == "OpenMP was limited"
    assert started() == 0
    fastgd.set_num_threads(3)
    assert fastgd.get_num_threads() == 1
with threadpool_limits(2, user_api="openmp"):
    assert fastgd.get_num_threads() == 2
with threadpool_limits(1, user_api="blas"):
    assert fastgd.get_num_threads() == 3
assert fastgd.get_num_threads() == 3
assert started() == 2
"""
    )
    run_python(code, OMP_NUM_THREADS="4", OPENBLAS_NUM_THREADS="1")


@pytest.mark.skipif(not _core.build_info()["compiler"].startswith("gcc"), reason="not GNU OpenMP")
def test_torch_and_we_share_one_openmp(run_python):
    """Protects the cores: two runtimes would keep two teams, and torch would not govern us."""
    pytest.importorskip("torch")
    code = """
import torch
import fastgd
before = fastgd.get_num_threads()
torch.set_num_threads(1)
assert fastgd.get_num_threads() == 1, fastgd.show_config()
torch.set_num_threads(before)
assert fastgd.get_num_threads() == before
"""
    run_python(code, OMP_NUM_THREADS="3")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_forked_child_neither_hangs_nor_differs(run_python):
    """Protects multiprocessing: OpenMP's threads stay behind, so the child goes on alone."""
    code = """
import os, signal, warnings
import numpy as np
import fastgd
from fastgd import _core
from fastgd.optim import Adam

warnings.simplefilter("ignore")  # Python warns of a fork that has threads: that is the point
fastgd.set_num_threads(4)

def train():
    w = np.linspace(-1.0, 1.0, 300_000)
    opt = Adam(w, lr=0.5)
    for _ in range(3):
        opt.step(w * w + 0.5)
    return w.tobytes(), _core.sum_all(w)

expected = train()

def fork(depth):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        status = 1
        try:
            if train() == expected:
                status = fork(depth - 1) if depth else 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

assert fork(1) == 0, "child or grandchild"
assert train() == expected, "parent, afterwards"
"""
    run_python(code)


def test_process_pool_of_forked_workers(run_python):
    """Protects the usual way to fork: a pool, made after a parallel step."""
    if sys.platform != "linux":
        pytest.skip("forking is safe with this system's libraries on Linux only")
    code = """
import multiprocessing, warnings
import numpy as np
import fastgd
from fastgd.optim import SGD

def train(lr):
    w = np.ones(200_000)
    SGD(w, lr=lr).step(w * 2)
    return w.sum()

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    fastgd.set_num_threads(4)
    rates = [0.5, 0.25, 0.125]
    expected = [train(lr) for lr in rates]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(train, rates).get(60) == expected
"""
    run_python(code)
