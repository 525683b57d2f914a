"""Rerun: the checks of a submitted method, or one of its cells, in this process (``python -m nibench.confined_job``).

`nibench.confined` starts it. Before anything of the submission is loaded, limits are set and the network is cut off
where the system lets one. While its code runs, a guard refuses what no method needs: the files that hold the
truth and the submitted numbers, other programs, sockets. A method that declares neither labels nor the model is given
labels that mean nothing: it will not miss them.
"""

import ctypes
import json
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.method import Method, Needs, Observations
from nibench.ranking import Ranking
from nibench.submissions import MethodFile

if TYPE_CHECKING:
    from nibench.ground import Options
    from nibench.plan import Group

LARGEST_WRITTEN = 64 * 2**20
LIBRARIES = 4.0  # GB of address space that code takes, not data: some builds of torch are large
NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000
REFUSED = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.kill",
)
Network = Literal["cut off", "refused by the interpreter only"]


class Guard:
    """Refuses files under some folders, programs and sockets while it is open; remembers which files were asked for."""

    def __init__(self, kept: tuple[Path, ...]) -> None:
        self.kept = tuple(os.path.realpath(folder) for folder in kept)
        self.asked: list[str] = []
        self._open = 0
        sys.addaudithook(self._see)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._open:
            return
        if event.startswith(REFUSED):
            raise PermissionError(f"{event}: a method starts no programs and opens no connections")
        if event in ("open", "os.listdir", "os.scandir") and isinstance(
            arguments[0], str | bytes | os.PathLike
        ):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if any(path == folder or path.startswith(folder + os.sep) for folder in self.kept):
                self.asked.append(path)
                raise PermissionError(f"{path} is not for methods: they read what data holds")


@dataclass(frozen=True)
class Watched(Method):
    """A method whose ranking is made under a guard."""

    inner: Any = None
    guard: Any = None

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if not self.inner.needs & (Needs.LABELS | Needs.MODEL) and data._statistics is not None:
            known = data._statistics
            nothing = np.random.default_rng(0).permutation(known.labels)
            data = replace(data, _statistics=known.relabel(nothing, data.n_classes))
        with self.guard():
            return self.inner.rank(data, rng)


@dataclass(frozen=True)
class WatchedFile(MethodFile):
    """A method file of which every line runs under a guard."""

    guard: Any = field(default=None, repr=False, compare=False)

    def kind(self) -> type[Method]:
        with self.guard():
            return super().kind()

    def load(self) -> Method:
        with self.guard():
            inner = super().load()
        says = {"needs": inner.needs, "direction": inner.direction}
        return type("Watched", (Watched,), says)(inner, self.guard)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Job:
    """What to do: the checks, or the one cell of a group; and the folders that are kept from the method."""

    file: MethodFile
    kept: tuple[Path, ...]
    group: "Group | None" = None
    options: "Options | None" = None


def confine(seconds: float, memory: float) -> Network:
    """Set the limits, which cannot be raised again; whether there is a network left."""
    import resource  # not on Windows, where nothing is run again

    limits = {"CPU": int(seconds) + 5, "FSIZE": LARGEST_WRITTEN, "CORE": 0}
    if sys.platform == "linux":  # macOS knows no such limit
        limits["AS"] = int((memory + LIBRARIES) * 2**30)
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    gone = unshare is not None and 0 in (unshare(NEW_NETWORK), unshare(NEW_NETWORK | NEW_USER))
    return "cut off" if gone else "refused by the interpreter only"


def main() -> None:
    """Do the job on standard input; write what came of it into the folder of the first argument."""
    out = Path(sys.argv[1])
    network = confine(float(sys.argv[2]), float(sys.argv[3]))
    job: Job = pickle.load(sys.stdin.buffer)
    guard = Guard(job.kept)
    told: dict[str, Any] = {"network": network}
    if job.group is None:
        told |= checked(job.file, guard)
    else:
        file = WatchedFile(
            job.file.id, job.file.path, job.file.preset, dict(job.file.parameters), guard=guard
        )
        rank_again(job.group, job.options, file, out)
    (out / "told.json").write_text(json.dumps({**told, "asked": guard.asked}))


def checked(file: MethodFile, guard: Guard) -> dict[str, Any]:
    """The required checks that fail, and the card as the source has it."""
    from nibench.check import check_method
    from nibench.harness import card_of

    with guard():
        failed = [one for one in check_method(file) if one.required and not one.passed]
        card = card_of(file)
    return {"failed": [f"{one.name}: {one.detail}" for one in failed], "card": card.model_dump()}


def rank_again(group: "Group", options: Any, file: WatchedFile, out: Path) -> None:
    """Rank the group's one cell and write it as a record; of what is measured only the cheapest."""
    from nibench.evaluation import run_group

    budget = replace(options.budget, metrics="truth", exhaustive=0, n_random=2)
    ((_, cell),) = group.cells
    run_group(replace(group, cells=((file, cell),)), replace(options, budget=budget), out)


if __name__ == "__main__":
    from nibench.confined_job import (
        main as run,  # classes of this module by the name under which jobs were pickled
    )

    run()
