"""Given: rankings that are there already, scored on the same road as those of a method that runs.

A ranking carries its card; what needs no method call is measured, so nobody's numbers have to be believed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.errors import InputError
from nibench.harness import score_cell, single_thread
from nibench.method import Method, Needs, Observations
from nibench.plan import Group, Plan, make_plan
from nibench.ranking import Ranking
from nibench.rankings import Key, Scored
from nibench.recompute import native_evidence
from nibench.record import Card, Cell
from nibench.stored import Stored
from nibench.submissions import MethodFile
from nibench.suites import Suite, find_suite

if TYPE_CHECKING:
    from nibench.ground import Options

OWN = (  # what a card says of itself, beside its words
    *("family", "claims", "direction", "needs", "shares_estimand", "scope", "scalability"),
    "human_in_the_loop",
)
TOLD = ("complexity", "limits", "paper", "summary")
NO_RANKING = "no ranking was given for this cell"


@dataclass(frozen=True)
class Given(Method):
    """Scores (D,) that somebody else made, with the native result that metrics read, if there is one."""

    scores: Any = None
    evidence: Any = None

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.scores is None:
            raise InputError(NO_RANKING)
        return Ranking.from_scores(self.scores, evidence=self.evidence)


@dataclass(frozen=True)
class GivenFile(MethodFile):
    """A method of which the card and the rankings are known; its file is never loaded."""

    card: Card | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    named: Scored | None = field(default=None, repr=False)  # in place of arrays: scores by the neurons' names

    def kind(self) -> type[Method]:
        """A method that declares what the card says."""
        return declared(self.card)

    def load(self) -> Method:
        return self.kind()(self.arrays.get("scores"), native_evidence(self.arrays))  # type: ignore[call-arg]


def declared(card: Card | None) -> type[Method]:
    """A `Given` with the class variables of a card.

    Raises
    ------
    InputError
        If the card names a need that there is not.
    """
    assert card is not None
    needs = Needs.NOTHING
    for name in card.needs:
        if name not in Needs.__members__:
            raise InputError(f"The card needs {name!r}; expected some of {', '.join(Needs.__members__)}.")
        needs |= Needs[name]
    names = ("claims", "direction", "family", "paper", "scope", "scalability", "complexity", "limits")
    says = {name: getattr(card, name) for name in (*names, "human_in_the_loop")}
    return type("Given", (Given,), {**says, "needs": needs, "shares_estimand": tuple(card.shares_estimand)})


def read_card(path: Path) -> Card:
    """The card of rankings, from the JSON that ``nibench new card NAME`` starts.

    Raises
    ------
    InputError
        Naming the field that is missing, unknown or not of the contract.
    """
    from nibench.check import card_problem

    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"No card {path}. Make one: nibench new card {path.stem}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}).") from None
    if isinstance(raw, dict) and (odd := set(raw) - {*OWN, *TOLD}):
        raise InputError(f"{path}: no field {min(odd)!r}; expected the fields {', '.join((*OWN, *TOLD))}.")
    if not isinstance(raw, dict) or {"claims", "needs", "family"} - set(raw):
        raise InputError(
            f"{path}: expected the fields {', '.join((*OWN, *TOLD))}; the first three named are needed."
        )
    try:
        card = Card(**{"direction": "concept->neurons", "scope": "global", "scalability": "high", **raw})
    except ValueError:
        raise InputError(
            f"{path}: needs and shares_estimand are lists, human_in_the_loop true or false, the rest text."
        ) from None
    kind = declared(card)
    problem = card_problem(kind())
    if problem is not None:
        raise InputError(f"{path}: {problem}")
    return card.model_copy(update=kind.criteria())


@dataclass(frozen=True)
class Extent:
    """Which cells are handed in: those of a suite, on these models where it names none.

    ``data`` is where its text is here, ``cap`` how many training words of it are read at most.
    """

    suite: str = "default"
    models: tuple[str, ...] = ()
    seeds: int = 1
    data: str | None = None
    cap: int | None = None

    @property
    def asked(self) -> Suite:
        """The suite that is named.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return find_suite(self.suite)

    @property
    def words(self) -> str:
        """The options that ask a run for the same cells."""
        rest = {"data": self.data, "cap": self.cap, "seeds": self.seeds if self.seeds > 1 else None}
        return " ".join(
            [
                f"--suite {self.suite}",
                *(f"--model {name}" for name in self.models),
                *(f"--{name} {value}" for name, value in rest.items() if value is not None),
            ]
        )

    @property
    def options(self) -> "Options":
        """How the suite's tasks are read here."""
        from nibench.ground import Options

        return Options(data=self.data, cap=self.cap, device="cpu", budget=self.asked.budget)

    def plan(self, method: str | MethodFile) -> Plan:
        """All its cells for a method, nothing taken as done."""
        named, tasks = list(self.asked.models or self.models), list(self.asked.tasks)
        return make_plan([method], tasks, named, self.seeds, self.options, Path(), fresh=True)


def scored(group: Group, extent: Extent, given: Sequence[tuple[GivenFile, Cell]]) -> list[Stored]:
    """Rankings of a group's cells, measured; each under the card it came with, without a cost."""
    from nibench.ground import Ground
    from nibench.model import load_model

    options = extent.options
    model = None if group.model is None else load_model(group.model, device=options.device)
    found, settings = [], {}
    with single_thread():
        ground = Ground(group.task.load(), model, options, others=group.others)
        for file, cell in given:
            if file.named is not None:
                where = f"{file.path.name}, {' '.join(key_of(cell)[:2]).strip()}"
                scores = file.named.aligned(ground.data.neurons, where)
                file = replace(file, arrays={"scores": scores})
            if cell.seed not in settings:
                settings[cell.seed] = ground.setting(cell.seed)
            record, arrays = score_cell(
                ground, settings[cell.seed], file, cell, group.digests[cell.stem], group.commands[cell.stem]
            )
            assert file.card is not None
            found.append(Stored(record.model_copy(update={"card": file.card, "cost": None}), arrays))
    return found


def key_of(cell: Cell) -> Key:
    """How a table names a cell: a model by the last part of its path."""
    return cell.task, Path(cell.model).name if cell.model else "", cell.seed
