"""Public and hidden truth side by side: a method tuned to what is shipped shows a gap.

Each method is judged by what it claims. In worlds every hidden one is compared with the bundled world of its kind
(the same distances, noise and labels, drawn anew); hidden models with the bundled glass-boxes, whose spread says what
another model may make of it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtr, stdtrit

from nibench.results import Results
from nibench.task import Claim
from nibench.uncertainty import LEVEL, holm
from nibench.wording import fine, number, rounded

if TYPE_CHECKING:
    from rich.table import Table

TIERS = {"world": "worlds", "glass-box": "models"}
SHOWN: dict[str, Claim] = {"world": "associated", "glass-box": "carries"}  # of a method that claims nothing
LEAST = 3  # units of which a spread is taken
SMALLEST = 0.05  # a gap below is no finding, however sure
LEAD = (
    "Rankings of worlds and models whose truth nobody but their maker knew. A method that was tuned to the shipped "
    "ones loses here what it gained there."
)
SMALL = (
    "0 = random rankings, 1 = perfect (NDCG), on what the method claims. Gap: public minus hidden, with its 95 % "
    "interval; hidden worlds against bundled ones of their kind (paired), hidden models against the bundled "
    "glass-boxes (two samples, common variance). Marked where it is .05 or more with p < .05, corrected by "
    "Holm over the rows."
)


@dataclass(frozen=True)
class Gap:
    """One method in one tier: public and hidden score on what it claims, and their difference."""

    method: str
    claim: Claim
    tier: str
    public: float | None
    hidden: float
    n_public: int
    n_hidden: int
    gap: float | None = None
    ci95: tuple[float, float] | None = None
    p: float | None = None  # two-sided; corrected by Holm over all rows
    other_source: bool = False  # what was ranked with in public and in the round are not one file

    @property
    def flagged(self) -> bool:
        """Whether the public score is above the hidden one by more than chance and other models allow."""
        return self.p is not None and self.p < LEVEL and self.gap is not None and self.gap >= SMALLEST


def gaps(results: Results) -> tuple[Gap, ...]:
    """Every method with hidden scores, those flagged first, then by tier and hidden score."""
    if results.hidden is None:
        return ()
    found = []
    for method, card in results.hidden.cards.items():
        for tier in TIERS:
            claim: Any = SHOWN[tier] if card.claims == "none" else card.claims
            one = _gap(results, results.hidden, method, claim, tier)
            found += [one] if one is not None else []
    tested = [i for i, one in enumerate(found) if one.p is not None]
    for i, p in zip(tested, holm(np.array([found[i].p for i in tested])), strict=True):
        found[i] = replace(found[i], p=float(p))
    return tuple(sorted(found, key=lambda one: (not one.flagged, one.tier, -one.hidden, one.method)))


def _gap(results: Results, kept: Results, method: str, claim: Claim, tier: str) -> Gap | None:
    hidden, public = (_units(some, method, claim, tier) for some in (kept, results))
    if not hidden:
        return None
    other = _source(results, method) not in (None, _source(kept, method))
    one = Gap(method, claim, TIERS[tier], None, _mean(hidden), 0, len(hidden), other_source=other)
    if tier == "world":
        hidden = {kind: value for kind, value in hidden.items() if kind in public} or hidden
        public = {kind: public[kind] for kind in hidden if kind in public}
    if not public:
        return one
    one = replace(
        one, public=_mean(public), hidden=_mean(hidden), n_public=len(public), n_hidden=len(hidden)
    )  # the means that are subtracted
    n, m = len(public), len(hidden)
    if tier == "world":
        differences = np.array([public[kind] - hidden[kind] for kind in hidden])
        se = np.sqrt(differences.var(ddof=1) / n) if n >= LEAST else None
        return _judged(one, se, n - 1)
    squares = n * np.var(list(public.values())) + m * np.var(list(hidden.values()))
    se = np.sqrt(squares / (n + m - 2) * (1 / n + 1 / m)) if n >= LEAST else None
    return _judged(one, se, n + m - 2)


def _mean(units: Mapping[str, float]) -> float:
    return float(np.mean(list(units.values())))


def _units(results: Results, method: str, claim: Claim, tier: str) -> dict[str, float]:
    """Kind of world, or model -> the method's mean score there; empty where it has none."""
    found: dict[str, list[float]] = defaultdict(list)
    for place in results.places:
        value = results.normalised(method, place, f"gt.ndcg[{claim}]")
        if value is not None and results.tier(place) == tier and not (tier == "world" and place.detail):
            found[results.lineage(place) if tier == "world" else place.model].append(value)
    return {unit: float(np.mean(values)) for unit, values in found.items()}


def _source(results: Results, method: str) -> str | None:
    """Digest of the file that ranked; None where the method has no cell."""
    cells = (seeds[0] for (name, _), seeds in results.cells.items() if name == method)
    return next((stored.record.digests["method"] for stored in cells), None)


def _judged(one: Gap, se: float | None, freedom: int) -> Gap:
    """With the gap, its t-interval and p-value; without these two, where there is no spread to take."""
    assert one.public is not None
    gap = one.public - one.hidden
    if se is None:
        return replace(one, gap=gap)
    half = float(stdtrit(freedom, 1 - LEVEL / 2) * se)
    p = float(2 * stdtr(freedom, -abs(gap) / se)) if se > 1e-12 else float(abs(gap) < 1e-9)
    return replace(one, gap=gap, ci95=(gap - half, gap + half), p=p)


# ---------------------------------------------------------------- shown


def section(results: Results) -> dict[str, Any]:
    """What the page shows, as plain JSON; no rows where nothing was hidden."""
    return {
        "lead": LEAD,
        "small": SMALL,
        "rounds": rounds(results),
        "rows": [
            {
                "method": one.method,
                "claim": one.claim,
                "tier": one.tier,
                "public": rounded(one.public),
                "hidden": rounded(one.hidden),
                "gap": rounded(one.gap),
                "low": rounded(one.ci95[0]) if one.ci95 else None,
                "high": rounded(one.ci95[1]) if one.ci95 else None,
                "p": rounded(one.p),
                "units": units(one),
                "flagged": one.flagged,
                "other_source": one.other_source,
            }
            for one in gaps(results)
        ],
    }


def rounds(results: Results) -> list[str]:
    """The ids of the rounds that there are scores of."""
    kept = results.hidden.stored if results.hidden is not None else ()
    return sorted({stored.record.cell.round or "" for stored in kept})


def units(one: Gap) -> str:
    """How many worlds or models are behind the two scores."""
    if one.tier == TIERS["world"]:
        return f"{one.n_hidden} world{'s' * (one.n_hidden > 1)}{', in pairs' * bool(one.n_public)}"
    return f"{one.n_public} against {one.n_hidden} models"


def markdown(results: Results, escaped: Callable[[str], str]) -> list[str]:
    """The lines of a Markdown section; none where nothing was hidden. ``escaped`` makes a record's text harmless."""
    found = gaps(results)
    if not found:
        return []
    lines = [
        "", f"## Public and hidden truth (round {', '.join(rounds(results))})", "", LEAD, "",
        "| method | claims | where | public | hidden | gap | |", "|---|---|---|--:|--:|--:|---|",
    ]  # fmt: skip
    lines += [
        f"| {escaped(one.method)} | {one.claim} | {units(one)} | {number(one.public)} | {number(one.hidden)} | "
        f"{_with_ends(one)} | {_remark(one)} |"
        for one in found
    ]
    return [*lines, "", SMALL]


def table(results: Results) -> "Table":
    """The same for a terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", caption_justify="left")
    for title in ("method", "claims", "where", "public", "hidden", "gap", ""):
        made.add_column(title, justify="right" if title in ("public", "hidden", "gap") else "left")
    for one in gaps(results):
        cells = (
            one.method,
            one.claim,
            one.tier,
            number(one.public),
            number(one.hidden),
            _with_ends(one),
            _remark(one),
        )
        made.add_row(*(Text(cell, style="bold red" if one.flagged else "") for cell in cells))
    made.caption = SMALL
    return made


def _with_ends(one: Gap) -> str:
    ends = f" [{number(one.ci95[0])}, {number(one.ci95[1])}]" if one.ci95 else ""
    return f"{number(one.gap)}{ends}"


def _remark(one: Gap) -> str:
    flagged = [f"better on what is shipped (p {fine(one.p)})"] if one.flagged else []
    return "; ".join([*flagged, *(["another source"] if one.other_source else [])])
