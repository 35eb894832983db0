"""``bench/report.py``: what it measures, how it sums up, what it writes."""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not (BENCH / "report.py").is_file():
    pytest.skip("the benchmarks are not beside these tests", allow_module_level=True)
pytest.importorskip("threadpoolctl")


@pytest.fixture(scope="module", autouse=True)
def bench() -> Any:
    """Import the modules of the benchmarks from their folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        import cases
        import machine
        import peers
        import report

        yield SimpleNamespace(cases=cases, machine=machine, peers=peers, report=report)


@pytest.fixture(scope="module")
def written(
    bench: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, dict[str, Any]]:
    """Report on both rooms, tiny and without torch; return what is printed, Markdown, figures."""
    folder = tmp_path_factory.mktemp("report")
    markdown, figures, printed = folder / "report.md", folder / "report.json", StringIO()
    only = ["linear-*", "adamw-1000", "adamw-1000-threads2", "adamw-25000000"]
    arguments = ["--quick", "--only", *only, "--markdown", str(markdown), "--json", str(figures)]
    present = bench.peers.find_spec
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(
            bench.peers, "find_spec", lambda name: None if name == "torch" else present(name)
        )
        patch.setattr(bench.report, "QUICK", bench.report.Settings(2000, 2, 2, 0.0))
        assert bench.report.main(arguments) == 0
    text = figures.read_text(encoding="utf-8")
    return printed.getvalue(), markdown.read_text(encoding="utf-8"), json.loads(text)


def test_markdown_is_what_was_printed(written: tuple[str, str, dict[str, Any]]) -> None:
    printed, markdown, _ = written
    assert markdown == printed
    headings = re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    assert len(headings) == len(set(headings)) == 6


def test_tables_are_rectangular(written: tuple[str, str, dict[str, Any]]) -> None:
    _, markdown, _ = written
    tables = [t.splitlines() for t in markdown.split("\n\n") if t.startswith("|")]
    assert len(tables) == 6
    for header, rule, *body in tables:
        assert set(rule) == {"|", "-"}
        assert body
        assert {(len(line), line.count("|")) for line in (rule, *body)} == {
            (len(header), header.count("|"))
        }


def test_every_promise_stands_beside_its_ratio(
    written: tuple[str, str, dict[str, Any]],
) -> None:
    _, markdown, figures = written
    promised = [row["promised"] for group in figures["groups"] for row in group["rows"]]
    for promise in ("≥ 10x", "≥ 7x", "≥ 5x", "≥ 4x", "≥ 1.5x", "≥ 15x", "≥ 70% of bandwidth"):
        assert promise in promised
        assert promise in markdown


def test_json_says_on_what_and_how(written: tuple[str, str, dict[str, Any]]) -> None:
    _, _, figures = written
    assert set(figures) == {"machine", "settings", "groups"}
    assert {"cpu", "cores", "compiler", "isa", "fastgd", "numpy", "torch"} <= set(
        figures["machine"]
    )
    assert figures["settings"]["rounds"] == 2
    for group in figures["groups"]:
        for row in group["rows"]:
            assert row["kept"] is None  # sizes this small are not judged
            if not row["missing"]:
                assert row["peer_seconds"] is not None
                assert row["fastgd_seconds"] is not None


def test_report_names_no_machine_and_no_path(
    written: tuple[str, str, dict[str, Any]],
) -> None:
    _, markdown, figures = written
    for text in (markdown, json.dumps(figures)):
        assert str(Path.home()) not in text
        assert sys.prefix not in text
        assert not re.search(rf"\b{re.escape(platform.node() or 'localhost')}\b", text)


def test_missing_peer_is_reported_as_missing(
    written: tuple[str, str, dict[str, Any]],
) -> None:
    _, markdown, figures = written
    (adamw,) = (group for group in figures["groups"] if group["key"] == "adamw-1000")
    by_peer = {row["against"]: row for row in adamw["rows"]}
    absent, present = by_peer["torch fused"], by_peer["numpy"]
    assert absent["missing"] == "torch fused"
    assert absent["ratio"] is absent["peer_seconds"] is None
    assert present["missing"] is None
    assert present["ratio"] > 0
    assert "torch fused is missing" in markdown
    assert "Missing: torch fused." in markdown


def test_bandwidth_is_that_of_the_machine(bench: Any) -> None:
    cases, report = bench.cases, bench.report
    case = cases.Step("AdamW", 12_500)
    group = cases.Group("key", "title", (cases.Comparison(case, "numpy", case),), probe="update")
    times = report.measure(group, report.Settings(rounds=2, seconds=0.0))
    result = report.summarise(group, times, judge=False)
    (row,) = result.rows
    moved = 28 * 12_500  # bytes: reads p, g, m, v and writes p, m, v, four each
    assert row.gigabytes_per_second == pytest.approx(moved / row.fastgd_seconds / 1e9)
    assert row.bandwidth_share == pytest.approx(row.gigabytes_per_second / result.bandwidth[1])
    assert f"{result.bandwidth[1]:.1f} GB/s with 1 thread" in report.section("title", [result])


def test_bandwidth_is_asked_for_where_memory_is_the_limit(bench: Any) -> None:
    probed = {group.key: group.probe for group in bench.cases.groups() if group.probe}
    assert set(probed.values()) == {"read", "update"}
    assert probed["linear-100000x784"] == "read"
    assert probed["adamw-25000000-threads2"] == "update"
    assert "adamw-1000000" not in probed
    assert not any(group.probe for group in bench.cases.groups(shrink=50))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--only", "nobody"], "--only must name some of these, got 'nobody': import, linear-"),
        (["--threads", "0"], "--threads must be 1 or more, got 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    bench: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as refusal:
        bench.report.main(arguments)
    assert refusal.value.code == 2
    assert complaint in " ".join(capsys.readouterr().err.split())


def test_full_table_is_the_promised_one(bench: Any) -> None:
    table = bench.cases.groups()
    assert len({group.key for group in table}) == len(table)
    floors = {
        (str(comparison.ours), comparison.peer): comparison.floor
        for group in table
        for comparison in group.comparisons
    }
    assert floors["100,000 x 784, batch 1, blocks shuffled, 1 thread", "scikit-learn"] == 10
    assert floors["100,000 x 784, batch 1024, blocks shuffled, 2 threads", "scikit-learn"] == 15
    assert floors["20,000 x 50, batch 256, blocks shuffled, 2 threads", "reference"] == 300
    assert floors["AdamW, 1,000,000 parameters, 1 thread", "reference"] == 1000
    assert floors["AdamW, 25,000,000 parameters, 2 threads", "torch fused"] == 1
    assert floors["import in a fresh process", "numpy"] == pytest.approx(1 / 1.3)


def test_one_thread_alone_can_be_asked_for(bench: Any) -> None:
    sides = [c for group in bench.cases.groups(threads=[1]) for c in group.contestants]
    assert {side.case.threads for side in sides} == {1}


# --- arithmetic -----------------------------------------------------------------------------------


def _group(bench: Any, floor: float | None, share: float | None = None) -> Any:
    case = bench.cases.Epoch(1000, 1000)
    comparison = bench.cases.Comparison(case, "scikit-learn", case, floor, share)
    return bench.cases.Group("key", "title", (comparison,), probe="read")


def _summary(bench: Any, group: Any, **seconds: tuple[list[float], list[float]]) -> Any:
    times = {
        one: bench.report.Times(*seconds[one.peer.replace("-", "_")])
        for one in (*group.contestants, *group.probes.values())
    }
    (row,) = bench.report.summarise(group, times, judge=True).rows
    return row


@pytest.mark.parametrize(
    ("floor", "share", "kept"),
    [
        (4.0, None, "yes"),
        (4.1, None, "epoch only"),
        (10.1, None, "NO"),
        (None, 0.5, "yes"),
        (4.0, 0.6, "NO"),
        (None, None, None),
    ],
)
def test_both_ratios_and_the_share_are_judged(
    bench: Any, floor: float | None, share: float | None, kept: str | None
) -> None:
    group = _group(bench, floor, share)
    row = _summary(
        bench,
        group,
        fastgd=([1e-3, 2e-3, 9e-3], [4e-3, 4e-3, 4e-3]),
        scikit_learn=([20e-3, 10e-3, 30e-3], [16e-3, 16e-3, 16e-3]),
        read=([1e-3, 1e-3, 1e-3], []),
    )
    assert row.ratio == pytest.approx(10.0)
    assert row.fit_ratio == pytest.approx(4.0)
    assert row.gigabytes_per_second == pytest.approx(2.0)  # 4 MB in 2 ms
    assert row.bandwidth_share == pytest.approx(0.5)
    assert row.kept == kept
    result = bench.report.Result(group.key, group.title, [row, row], {})
    summed_up = f"Promises kept: 2 {kept}. Done." if kept else "Done."
    assert bench.report.closing([result]) == summed_up


def test_noise_is_no_figure(bench: Any) -> None:
    row = _summary(
        bench,
        _group(bench, 2.0),
        fastgd=([-1e-6], [1.0]),
        scikit_learn=([1.0], [3.0]),
        read=([1e-3], []),
    )
    assert row.ratio is row.spread is row.gigabytes_per_second is None
    assert row.kept == "NO"
    fine = replace(row, fastgd_seconds=0.5, ratio=2.0)
    header, _, line, _ = bench.report.table([row, fine]).splitlines()
    cells = dict(zip(*([c.strip() for c in row.split("|")] for row in (header, line)), strict=True))
    assert cells["fastgd"] == cells["ratio"] == "-"


def test_empty_columns_are_left_out(bench: Any) -> None:
    row = bench.report.Row("case", "numpy", "", fastgd_seconds=1e-6, peer_seconds=2e-6, ratio=2.0)
    header, _, line = bench.report.table([row]).splitlines()
    assert re.sub(" +", " ", header) == "| fastgd on | against | fastgd | peer | ratio |"
    assert line.split("|")[3:6] == [" 1 µs   ", " 2 µs ", " 2x    "]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.0, "2 s"), (0.0015, "1.5 ms"), (1e-6, "1 µs"), (2.5e-8, "25 ns"), (None, ""), (-1.0, "")],
)
def test_durations_read_well(bench: Any, seconds: float | None, text: str) -> None:
    assert bench.report.duration(seconds) == text


# --- measuring ------------------------------------------------------------------------------------


@pytest.fixture
def logged(bench: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace every peer by one that writes its name down and limits itself to 500,000 numbers."""
    log: list[str] = []

    def find(contestant: Any) -> Any:
        def prepare(case: Any) -> Callable[[], object]:
            return lambda: log.append(f"{contestant.peer} {getattr(case, 'epochs', '')}")

        return bench.peers.Peer(contestant.peer, "numpy", prepare, limit=500_000)

    monkeypatch.setattr(bench.report, "find", find)
    return log


def test_contestants_take_turns(bench: Any, logged: list[str]) -> None:
    settings = bench.report.Settings(rounds=3, epochs=4, seconds=0.0)
    bench.report.measure(_group(bench, None), settings)
    turn = ["fastgd 1", "fastgd 4", "scikit-learn 1", "scikit-learn 4", "read 1"]
    assert logged == turn + 3 * turn  # to warm up, then for each round


def test_slice_is_scaled_and_epochs_are_taken_apart(
    bench: Any, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Timer:
        """A fit takes 5 s and 2 s for each epoch."""

        def __init__(self, work: Callable[[], object]) -> None:
            self.work = work

        def timeit(self, number: int) -> float:
            self.work()
            return number * (5.0 + 2.0 * float(logged[-1].split()[-1]))

    monkeypatch.setattr(bench.report, "Timer", Timer)
    group = _group(bench, None)
    times = bench.report.measure(group, bench.report.Settings(rounds=2, epochs=6))
    ours = times[group.contestants[0]]
    assert ours.scale == 2.0  # a million numbers, half of them done
    assert ours.unit == [4.0, 4.0]
    assert ours.fit == [14.0, 14.0]
    row = bench.report.summarise(group, times, judge=False).rows[0]
    assert row.peer_slice == 0.5
    assert "peer timed on 50%, scaled" in bench.report.table([row])


def test_import_is_timed_in_a_process_of_its_own(bench: Any) -> None:
    contestant = bench.cases.Contestant("numpy", bench.cases.Import())
    work = bench.peers.find(contestant).prepare(contestant.case)
    assert work().returncode == 0
    assert contestant.case.within(1) == (contestant.case, 1.0)
    assert bench.peers.traffic(contestant) == 0


def test_every_side_of_the_table_has_a_peer(bench: Any) -> None:
    for group in bench.cases.groups():
        for contestant in (*group.contestants, *group.probes.values()):
            assert bench.peers.find(contestant).name == contestant.peer


def test_pinned_holds_fastgd_and_lets_go(bench: Any) -> None:
    import fastgd

    before = fastgd.get_num_threads()
    with bench.peers.pinned(1):
        assert fastgd.get_num_threads() == 1
    assert fastgd.get_num_threads() == before


@pytest.mark.parametrize("rule", ["SGD", "AdamW"])
def test_numpy_peer_does_the_same_work(bench: Any, rule: str) -> None:
    from fastgd import reference

    hyper = bench.peers.HYPER[rule]
    p, g = bench.peers._parameters(bench.cases.Step(rule, 50))
    param, grad = p.tolist(), g.tolist()
    state: dict[str, list[float]] = {}
    step = bench.peers.NUMPY_RULES[rule](p, g, **hyper)
    for t in range(1, 6):
        step()
        reference.RULES[rule.lower()](param, grad, state, t, **hyper)
    np.testing.assert_allclose(p, param, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel_is_faster", [True, False])
def test_read_probe_is_the_faster_way(
    bench: Any, monkeypatch: pytest.MonkeyPatch, threads: int, kernel_is_faster: bool
) -> None:
    def sum_all(x: Any) -> str:
        time.sleep(0.0 if kernel_is_faster else 0.02)
        return "kernel"

    monkeypatch.setattr(bench.peers, "_core", SimpleNamespace(sum_all=sum_all))
    if kernel_is_faster:
        monkeypatch.setattr(np, "max", lambda x: time.sleep(0.02))
    work = bench.peers._read_probe(bench.cases.Epoch(11, 3, threads=threads))
    assert isinstance(work(), str) is kernel_is_faster
