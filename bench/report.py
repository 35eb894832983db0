"""fastgd beside its peers: ``python bench/report.py`` measures and prints a table of ratios.

All contestants of a group run in one process and strictly in turn, for several rounds, each held to
the number of threads that its case names; what is compared are the medians over the rounds. A ratio
is the peer's time divided by fastgd's: above 1, fastgd is the faster one.

An epoch of an estimator is measured in two ways, on both sides alike: as the difference between a
fit of several epochs and a fit of one, divided by the epochs in between (ratio), and as the whole
of a fit of one epoch, with all its checks (whole fit). A promise is kept if both ratios keep it; if
only the epoch itself does, that is said.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import groupby
from math import ceil
from pathlib import Path
from timeit import Timer

import numpy as np
from cases import Case, Comparison, Contestant, Epoch, Group, groups, threads_text
from machine import describe
from peers import find, pinned, traffic

NOTHING = "-"


@dataclass(frozen=True)
class Settings:
    """How thoroughly to measure.

    `shrink` divides the sizes, `epochs` is the longer of the two fits, `seconds` the least time of
    one measurement (quick work is repeated until it takes that long).
    """

    shrink: int = 1
    rounds: int = 6
    epochs: int = 4
    seconds: float = 0.02


FULL = Settings()
QUICK = Settings(shrink=50, rounds=3, epochs=8, seconds=0.004)


@dataclass(frozen=True)
class Times:
    """Seconds per unit of a contestant, one for each round; `scale` > 1 if done on a slice."""

    unit: list[float] = field(default_factory=list)
    fit: list[float] = field(default_factory=list)
    scale: float = 1.0


@dataclass(frozen=True)
class Row:
    """One line of the table: a comparison and what came out; None where there is no figure."""

    case: str
    against: str
    promised: str
    missing: str | None = None
    fastgd_seconds: float | None = None
    peer_seconds: float | None = None
    ratio: float | None = None
    spread: float | None = None
    fit_ratio: float | None = None
    gigabytes_per_second: float | None = None
    bandwidth_share: float | None = None
    kept: str | None = None
    peer_slice: float = 1.0


@dataclass(frozen=True)
class Result:
    """A group's rows, and the machine's bandwidth in GB/s by number of threads."""

    key: str
    title: str
    rows: list[Row]
    bandwidth: dict[int, float]


# --- measuring ------------------------------------------------------------------------------------


class Runner:
    """A contestant made ready: takes its turn and remembers the times."""

    def __init__(self, contestant: Contestant, settings: Settings) -> None:
        peer = find(contestant)
        case, scale = contestant.case.within(peer.limit)
        self.threads = case.threads
        self.epochs = settings.epochs
        self.times = Times(scale=scale)
        parts: list[Case] = [case]
        if isinstance(case, Epoch) and contestant.peer != "read":
            parts = [replace(case, epochs=n) for n in (1, settings.epochs)]
        with pinned(self.threads):
            self.timers = [_calibrated(Timer(peer.prepare(p)), settings.seconds) for p in parts]

    def turn(self) -> None:
        """Time every part once."""
        with pinned(self.threads):
            time.sleep(0.06)  # lets the threads of whoever was on before stop spinning
            first, *more = (timer.timeit(number) / number for timer, number in self.timers)
        scale = self.times.scale
        if more:
            self.times.fit.append(first * scale)
            first = (more[0] - first) / (self.epochs - 1)
        self.times.unit.append(first * scale)


def _calibrated(timer: Timer, seconds: float) -> tuple[Timer, int]:
    """Return the timer and how often to repeat its work for `seconds`; the first call warms up."""
    first = timer.timeit(1)
    once = first if first > 10 * seconds else timer.timeit(1)
    return timer, max(1, ceil(seconds / max(once, 1e-7)))


def measure(group: Group, settings: Settings) -> dict[Contestant, Times]:
    """Time all contestants of a group that are installed, in turn, round after round."""
    everybody = [*group.contestants, *group.probes.values()]
    present = [one for one in everybody if not find(one).missing]
    runners = {contestant: Runner(contestant, settings) for contestant in present}
    for _ in range(max(settings.rounds, group.rounds)):
        for runner in runners.values():
            runner.turn()
    return {contestant: runner.times for contestant, runner in runners.items()}


# --- from times to rows ---------------------------------------------------------------------------


def ratio(peer: Sequence[float], ours: Sequence[float]) -> float | None:
    """Return the ratio of the medians, or None if there are none or they drown in noise.

    Examples
    --------
    >>> ratio([10.0, 30.0, 20.0], [1.0, 2.0, 9.0])
    10.0
    """
    if not peer or not ours or min(np.median(peer), np.median(ours)) <= 0:
        return None
    return float(np.median(peer) / np.median(ours))


def spread(peer: Sequence[float], ours: Sequence[float]) -> float | None:
    """Return half the interquartile range of the rounds' own ratios, relative to their median.

    Examples
    --------
    >>> spread([8.0, 10.0, 12.0], [1.0, 1.0, 1.0])
    0.1
    """
    if min(*peer, *ours) <= 0:
        return None
    low, middle, high = np.quantile(np.divide(peer, ours), [0.25, 0.5, 0.75])
    return float((high - low) / 2 / middle)


def summarise(group: Group, times: Mapping[Contestant, Times], judge: bool) -> Result:
    """Return the rows of a group; without `judge` no promise is called kept or broken."""
    bandwidth = {
        n: traffic(probe) / float(np.median(times[probe].unit)) / 1e9
        for n, probe in group.probes.items()
    }
    rows = [_row(comparison, times, bandwidth, judge) for comparison in group.comparisons]
    return Result(group.key, group.title, rows, bandwidth)


def _row(
    comparison: Comparison,
    times: Mapping[Contestant, Times],
    bandwidth: Mapping[int, float],
    judge: bool,
) -> Row:
    we, they = comparison.sides
    same_threads = we.case.threads == they.case.threads
    row = Row(
        case=str(we.case),
        against=they.peer if same_threads else f"{they.peer}, {threads_text(they.case.threads)}",
        promised=_promise(comparison),
    )
    missing = [one.peer for one in comparison.sides if one not in times]
    if missing:
        return replace(row, missing=missing[-1])
    ours, peer = times[we], times[they]
    seconds = float(np.median(ours.unit))
    speed = traffic(we) / seconds / 1e9 if seconds > 0 and bandwidth else None
    share = speed / bandwidth[we.case.threads] if speed is not None else None
    row = replace(
        row,
        fastgd_seconds=seconds,
        peer_seconds=float(np.median(peer.unit)),
        ratio=ratio(peer.unit, ours.unit),
        spread=spread(peer.unit, ours.unit),
        fit_ratio=ratio(peer.fit, ours.fit),
        gigabytes_per_second=speed,
        bandwidth_share=share,
        peer_slice=1 / peer.scale,
    )
    return replace(row, kept=_kept(comparison, row)) if judge else row


def _promise(comparison: Comparison) -> str:
    parts = [comparison.promise] if comparison.promise else []
    if comparison.floor is not None and not comparison.promise:
        parts.append(f"≥ {comparison.floor:g}x")
    if comparison.share is not None:
        parts.append(f"≥ {comparison.share:.0%} of bandwidth")
    return ", ".join(parts)


def _kept(comparison: Comparison, row: Row) -> str | None:
    """Hold the row against what is promised, if anything is."""
    if comparison.floor is None and comparison.share is None:
        return None
    floor, share = comparison.floor or 0.0, comparison.share or 0.0
    if (row.ratio or 0.0) < floor or (row.bandwidth_share or 0.0) < share:
        return "NO"
    return "yes" if row.fit_ratio is None or row.fit_ratio >= floor else "epoch only"


# --- from rows to text ----------------------------------------------------------------------------

COLUMNS: dict[str, Callable[[Row], str]] = {
    "fastgd on": lambda row: row.case,
    "against": lambda row: row.against,
    "fastgd": lambda row: duration(row.fastgd_seconds),
    "peer": lambda row: duration(row.peer_seconds),
    "ratio": lambda row: _ratio(row.ratio),
    "spread": lambda row: _text(row.spread, "± {:.0%}"),
    "whole fit": lambda row: _ratio(row.fit_ratio),
    "promised": lambda row: row.promised,
    "kept": lambda row: row.kept or "",
    "GB/s": lambda row: _text(row.gigabytes_per_second, "{:.1f}"),
    "of machine": lambda row: _text(row.bandwidth_share, "{:.0%}"),
    "note": lambda row: _note(row),
}


def _text(figure: float | None, form: str) -> str:
    return "" if figure is None else form.format(figure)


def _ratio(figure: float | None) -> str:
    return _text(figure, "{:.3g}x" if (figure or 0) < 1000 else "{:,.0f}x")


def _note(row: Row) -> str:
    if row.missing:
        return f"{row.missing} is missing"
    return f"peer timed on {row.peer_slice:.0%}, scaled" if row.peer_slice < 1 else ""


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it.

    Examples
    --------
    >>> duration(0.00123), duration(12.0)
    ('1.23 ms', '12 s')
    """
    if seconds is None or seconds <= 0:  # a difference that drowned in noise
        return ""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e9:.3g} ns"


def table(rows: Iterable[Row]) -> str:
    """Return rows as a table that a terminal and GitHub both show; empty columns are left out."""
    rows = list(rows)
    columns = {name: [cell(row) for row in rows] for name, cell in COLUMNS.items()}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    widths = {name: max(map(len, [name, *cells])) for name, cells in columns.items()}

    def line(cells: Iterable[str]) -> str:
        filled = (cell.ljust(w) for cell, w in zip(cells, widths.values(), strict=True))
        return "| " + " | ".join(filled) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths.values()) + "|"
    body = ([cell or NOTHING for cell in cells] for cells in zip(*columns.values(), strict=True))
    return "\n".join([line(columns), rule, *map(line, body)])


def section(title: str, results: Sequence[Result]) -> str:
    """Return groups as text: title, table, bandwidth of the machine."""
    parts = [f"## {title}", table(row for result in results for row in result.rows)]
    speeds = [
        f"{speed:.1f} GB/s with {threads_text(n)}"
        + (f" ({result.key})" if len(results) > 1 else "")
        for result in results
        for n, speed in result.bandwidth.items()
    ]
    if speeds:
        parts.append(f"Memory bandwidth of the machine, measured in turn: {', '.join(speeds)}.")
    return "\n\n".join(parts)


def preamble(machine: Mapping[str, object], quick: bool) -> str:
    """Return the head of the report: on what, and how to read it."""
    facts = "; ".join(f"{k} {NOTHING if v is None else v}" for k, v in machine.items())
    how = "Times: medians of rounds in turn. Ratio: the peer's time / fastgd's."
    if quick:
        how += " A quick look at small sizes: what is promised is not judged."
    return f"# fastgd beside its peers\n\n{facts}\n\n{how}"


def closing(results: Iterable[Result]) -> str:
    """Return the last line: how many promises were kept, and who was missing."""
    rows = [row for result in results for row in result.rows]
    count = Counter(row.kept for row in rows if row.kept)
    kept = ", ".join(f"{n} {verdict}" for verdict, n in count.items())
    missing = sorted({row.missing for row in rows if row.missing})
    parts = [f"Promises kept: {kept}." if kept else "", *(f"Missing: {name}." for name in missing)]
    return " ".join([*filter(None, parts), "Done."])


# --- the command ----------------------------------------------------------------------------------


def run(chosen: Sequence[Group], settings: Settings, judge: bool) -> Iterator[Result]:
    """Measure group after group."""
    for group in chosen:
        print(f"measuring {group.key} ...", file=sys.stderr, flush=True)
        yield summarise(group, measure(group, settings), judge)
        gc.collect()  # the arrays of one group are gone before the next one starts


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; return the exit status."""
    parser = argparse.ArgumentParser(description="Compare fastgd with its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: 20 s")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="groups, e.g. import 'linear-*'")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(argv)
    if min(options.threads) < 1:
        parser.error(f"--threads must be 1 or more, got {min(options.threads)}")
    settings = QUICK if options.quick else FULL
    everything = groups(settings.shrink, sorted(set(options.threads)))
    patterns = options.only or ["*"]
    for pattern in patterns:
        if not any(fnmatchcase(group.key, pattern) for group in everything):
            names = ", ".join(group.key for group in everything)
            parser.error(f"--only must name some of these, got {pattern!r}: {names}")
    chosen = [g for g in everything if any(fnmatchcase(g.key, p) for p in patterns)]

    machine = describe()
    text = [preamble(machine, options.quick)]
    print(text[0], flush=True)
    results: list[Result] = []
    measured = run(chosen, settings, judge=not options.quick)
    for title, together in groupby(measured, key=lambda result: result.title):
        results += (these := list(together))
        text.append(section(title, these))
        print("\n" + text[-1], flush=True)
    text.append(closing(results))
    print("\n" + text[-1])
    if options.markdown:
        options.markdown.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    if options.json:
        figures = {
            "machine": machine,
            "settings": asdict(settings),
            "groups": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
