"""Axes: the questions asked of every ranking, each with a board of its own.

The truth has one for each claim. A method is judged by the claim its card makes; its values on the others are
shown, as not claimed.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Claim = Literal["associated", "responds", "carries", "required"]


@dataclass(frozen=True)
class Axis:
    """One question asked of every ranking, with a board of its own.

    ``families``: methods of these families share machinery with the metric (home advantage);
    ``claim``: methods whose card names it compute the column's own definition (shared estimand);
    ``beside``: (name, metric) of what is shown beside the value, ordering nothing.
    """

    id: str
    metric: str
    title: str
    question: str
    claim: Claim | None = None
    families: tuple[str, ...] = ()
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def of_truth(self) -> bool:
        """Whether it asks for the known answer, and so judges those that claim it."""
        return self.id.startswith("truth.")


def _truth(claim: Claim, question: str) -> Axis:
    beside = (("energy", f"gt.energy[{claim}]"), ("AP", f"gt.ap[{claim}]"))
    return Axis(f"truth.{claim}", f"gt.ndcg[{claim}]", f"Truth: {claim}", question, claim, (), beside)


AXES: tuple[Axis, ...] = (
    _truth("carries", "Are the neurons known to carry the concept ranked first?"),
    Axis(
        "encodes",
        "encodes",
        "Encodes",
        "Can a probe read the concept from few top neurons?",
        None,
        ("linear", "gaussian"),
    ),
    Axis(
        "carries",
        "abl.auc[interchange]",
        "Carries",
        "Does the model's answer follow when only the top neurons are taken from the other class?",
        "carries",
    ),
    Axis(
        "required",
        "abl.auc[mean]",
        "Required",
        "Does the behaviour suffer when the top neurons are replaced by their mean?",
        "required",
    ),
    _truth("required", "Are the neurons known to be required ranked first?"),
    _truth("responds", "Are the neurons known to respond to the concept ranked first?"),
    _truth("associated", "Are the neurons known to vary with the label ranked first?"),
    Axis(
        "truth.model",
        "gt.ndcg[model]",
        "Truth: model",
        "No concept: are the neurons ranked first whose loss the model's next words feel most?",
        None,
        (),
        (("energy", "gt.energy[model]"),),
    ),
)
FLAGGING = {
    "gt.decoy": 0.5,
    "gt.decoy[natural]": 0.5,
    "sel.kappa": 0.0,
    "abl.spec": 0.0,
    "stab.data": 0.0,
}
"""Metrics that are shown plain and order nothing -> what random rankings score."""
ORDER = (
    "truth.carries",
    "carries",
    "required",
    "truth.required",
    "truth.associated",
    "truth.responds",
    "truth.model",
)
"""The default order of a table is that of the first of these that has values."""
HEADLINE = ("truth.carries", "encodes", "carries", "required")
TRUTH_HEADLINE = ("truth.associated", "truth.responds", "truth.carries", "truth.required")


def headline(there: Collection[str]) -> tuple[str, ...]:
    """The axes shown first: one of each kind, or every claim where only the truth was asked for."""
    return HEADLINE if {"encodes", "carries", "required"} & set(there) else TRUTH_HEADLINE
