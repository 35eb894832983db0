"""A file larger than memory: an epoch over it against reading it.

    python bench/mapped_file.py [--gigabytes 20] [--features 64] [--rounds 3] [--written]

makes a file of float32, of zeros that take no place on the disk or, with --written, of numbers;
then, in turn, drops it from the system's cache and reads it once, or trains on it for an epoch.
Prints both rates, their ratio, and the most memory that the process held of its own; medians of
the rounds. --folder chooses where the file lies.
"""

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from fastgd.linear_model import SGDRegressor

MEGABYTE = 2**20
STATUS = Path("/proc/self/status")


def make(path, n_bytes, written):
    """Create the file."""
    with open(path, "wb") as file:
        if not written:
            file.truncate(n_bytes)
            return
        block = np.random.default_rng(0).standard_normal(16 * MEGABYTE // 4, np.float32).tobytes()
        for _ in range(n_bytes // len(block) + 1):
            file.write(block)
        file.truncate(n_bytes)
        file.flush()
        os.fsync(file.fileno())


def forget(path):
    """Drop the file from the system's cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path):
    """Read it from beginning to end; give the seconds."""
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        room = bytearray(MEGABYTE)
        while file.readinto(room):
            pass
    return time.perf_counter() - start


def train(path, features, shuffle, batch_size):
    """Train on it for an epoch; give the seconds."""
    X = np.memmap(path, np.float32, "r")
    X = X[: X.size // features * features].reshape(-1, features)
    y = np.zeros(len(X), np.float32)
    model = SGDRegressor(
        max_iter=1, tol=None, shuffle=shuffle, batch_size=batch_size, learning_rate="constant",
        eta0=1e-4, random_state=0,
    )  # fmt: skip
    start = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - start


class Memory:
    """The most memory of its own, and in all, that this process holds meanwhile, in megabytes."""

    def __enter__(self):
        self.own = self.all = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._end.wait(0.01):
            held = dict(line.split(":") for line in STATUS.read_text().splitlines())
            own, shared = (int(held[k].split()[0]) // 1024 for k in ("RssAnon", "RssFile"))
            self.own, self.all = max(self.own, own), max(self.all, own + shared)

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def main():
    """Print a line for each way through the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--written", action="store_true")
    args = parser.parse_args()
    n_bytes = int(args.gigabytes * 1e9)
    with tempfile.NamedTemporaryFile(dir=args.folder) as file:
        make(file.name, n_bytes, args.written)
        for shuffle, batch_size in ((False, 1), ("block", 1), ("block", 1024)):
            rounds = []
            with Memory() as memory:
                for _ in range(args.rounds):
                    forget(file.name)
                    raw = read(file.name)
                    forget(file.name)
                    rounds.append((raw, train(file.name, args.features, shuffle, batch_size)))
            raw, seconds = np.median(rounds, axis=0)
            print(
                f"shuffle={shuffle!r}, batch_size={batch_size}: read {n_bytes / raw / 1e9:.2f} "
                f"GB/s, trained {n_bytes / seconds / 1e9:.2f} GB/s, {100 * raw / seconds:.0f} %; "
                f"memory {memory.own} MB, with mapped pages {memory.all} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
