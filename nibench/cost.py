"""What a method costs: seconds and sampled memory (passes are counted where they are made)."""

import threading
import time
from types import TracebackType

import psutil


class Meter:
    """Context manager: wall time, and the largest resident memory sampled while it was open."""

    def __init__(self, interval: float = 0.02) -> None:
        self.seconds = 0.0
        self.peak_memory_mb = 0.0
        self._interval = interval
        self._process = psutil.Process()
        self._stop = threading.Event()

    def _sample(self) -> None:
        while True:
            self.peak_memory_mb = max(self.peak_memory_mb, self._process.memory_info().rss / 2**20)
            if self._stop.wait(self._interval):
                return

    def __enter__(self) -> "Meter":
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._start
        self._stop.set()
        self._thread.join()


def tree_memory_mb() -> float:
    """Resident memory of this process and all its children, in MiB, now."""
    total = 0
    process = psutil.Process()
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_info().rss
        except psutil.Error:  # ended meanwhile
            continue
    return total / 2**20
