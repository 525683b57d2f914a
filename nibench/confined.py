"""Confined: a stranger's method in a process of its own, with limits, and what it hands back.

What holds: time, memory, the size of a file it writes, no environment of ours, an empty folder to work in; all that
it started is killed with it. The guard of `nibench.confined_job` holds against carelessness only: Python code can go
round it, and libraries that open files by themselves are not seen. Whoever runs code of strangers wants a machine
that has nothing to lose.
"""

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from nibench.errors import InputError

POLL = 0.05  # seconds
LAST = 300  # characters of what it printed that are shown


@dataclass(frozen=True)
class Limits:
    """Of one call: processor seconds (five times that by the wall), and GB of resident memory."""

    seconds: float = 180.0
    memory: float = 4.0

    @property
    def wall(self) -> float:
        """Seconds by the wall: a busy machine is nobody's fault, sleeping is."""
        return 5 * self.seconds


def confined(job: Any, folder: Path, limits: Limits) -> str | None:
    """Run ``nibench.confined_job`` on a job, which writes into ``folder``; None, or why it came to no end.

    Raises
    ------
    InputError
        Where the machine knows no such limits (Windows).
    """
    if os.name != "posix":
        raise InputError("Submitted code is run again on Linux or macOS only; use --rerun 0 here.")
    home = folder / "home"
    home.mkdir(parents=True)
    log = folder / "log"
    command = [
        sys.executable,
        "-P",
        "-m",
        "nibench.confined_job",
        str(folder),
        str(limits.seconds),
        str(limits.memory),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            cwd=home,
            env=_bare(home),
            start_new_session=True,
        )
    try:
        assert process.stdin is not None
        with process.stdin as stream:
            pickle.dump(job, stream)
        return _watched(process, limits) or _ended(process.returncode, limits, log)
    except BrokenPipeError:
        process.wait()
        return _ended(process.returncode or 1, limits, log)
    finally:
        _kill(process)


def _bare(home: Path) -> dict[str, str]:
    """An environment without anything of the caller's: no tokens, no proxies, no caches to poison."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")}
    places = {name: str(home) for name in ("HOME", "TMPDIR", "NIBENCH_CACHE", "HF_HOME")}
    return {
        **threads,
        **places,
        "PATH": os.defpath,
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "USER": "nobody",
    }


def _watched(process: "subprocess.Popen[bytes]", limits: Limits) -> str | None:
    """Wait for the end; why it had to be ended, or None."""
    end = time.monotonic() + limits.wall
    while process.poll() is None:
        if time.monotonic() > end:
            return f"took over {limits.wall:g} s by the wall"
        seconds, resident = _spent(process.pid)
        if seconds > limits.seconds:
            return f"took over {limits.seconds:g} s"
        if resident > limits.memory * 2**30:
            return f"took over {limits.memory:g} GB"
        time.sleep(POLL)
    return None


def _spent(pid: int) -> tuple[float, int]:
    """Processor seconds and resident bytes of a process and all that it started."""
    seconds, resident = 0.0, 0
    for each in _tree(pid):
        with suppress(psutil.Error):  # ended meanwhile
            times = each.cpu_times()
            seconds += times.user + times.system
            resident += each.memory_info().rss
    return seconds, resident


def _tree(pid: int) -> list[Any]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def _ended(code: int, limits: Limits, log: Path) -> str | None:
    if code == 0:
        return None
    if code == -signal.SIGXCPU:
        return f"took over {limits.seconds:g} s"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4 * LAST))
        said = " ".join(file.read().decode(errors="replace").split())[-LAST:]
    if "MemoryError" in said or "bad_alloc" in said or code == -signal.SIGKILL:
        return f"took over {limits.memory:g} GB"
    return f"ended with code {code}: {said}"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """The process, its session, and whoever left that session."""
    tree = _tree(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in tree:
        with suppress(psutil.Error):
            each.kill()
    process.wait()
