"""Given: rankings that are there already, scored on the same road as those of a method that runs.

A ranking carries its card; what needs no method call is measured, so nobody's numbers have to be believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nibench.errors import InputError
from nibench.harness import score_cell, single_thread
from nibench.method import Method, Needs, Observations
from nibench.plan import Group, Plan, make_plan
from nibench.ranking import Ranking
from nibench.recompute import native_evidence
from nibench.record import Card, Cell
from nibench.results import Stored
from nibench.submissions import MethodFile
from nibench.suites import Suite

Key = tuple[str, str, int]  # how a table of rankings names a cell: task, model ("" for none), seed
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
    named: Mapping[str, float] | None = field(default=None, repr=False)  # in place of arrays: neuron -> score

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


def suite_plan(
    method: str | MethodFile, suite: Suite, models: Sequence[str], seeds: int, data: str | None = None
) -> Plan:
    """All cells that a suite has for a method, nothing taken as done."""
    from nibench.ground import Options

    options = Options(data=data, device="cpu", budget=suite.budget)
    named = list(suite.models or models)
    return make_plan([method], list(suite.tasks), named, seeds, options, Path(), fresh=True)


def scored(
    group: Group, data: str | None, suite: Suite, given: Sequence[tuple[GivenFile, Cell]]
) -> list[Stored]:
    """Rankings of a group's cells, measured; each under the card it came with, without a cost."""
    from nibench.ground import Ground, Options
    from nibench.model import load_model

    options = Options(data=data, device="cpu", budget=suite.budget)
    model = None if group.model is None else load_model(group.model, device=options.device)
    found, settings = [], {}
    with single_thread():
        ground = Ground(group.task.load(), model, options, others=group.others)
        for file, cell in given:
            if file.named is not None:
                scores = in_order(
                    file.named, list(ground.data.neurons), " ".join(map(str, key_of(cell)[:2])).strip()
                )
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


def in_order(scores: Mapping[str, float], names: "list[str]", where: str) -> np.ndarray:
    """(D,) float64: the scores in the order of a model's neurons.

    Raises
    ------
    InputError
        If a neuron has no score, a name is no neuron's, or a score is NaN or +inf.
    """
    if missing := [name for name in names if name not in scores]:
        raise InputError(
            f"{where}: scores for {len(names) - len(missing)} of {len(names)} neurons; {missing[0]} has none. "
            "Score every neuron; -inf says 'cannot tell'."
        )
    if len(scores) > len(names):
        known = set(names)
        odd = next(name for name in scores if name not in known)
        raise InputError(
            f"{where}: there is no neuron {odd!r}; it has {len(names)}, such as {names[0]} and {names[-1]}."
        )
    values = np.array([scores[name] for name in names])
    if np.isnan(values).any() or (values == np.inf).any():
        raise InputError(f"{where}: scores are NaN or +inf; score every neuron, -inf says 'cannot tell'.")
    return values
