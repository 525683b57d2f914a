"""Inspection: everything to see of one neuron, as plain data and as one page that needs nothing outside itself.

The page has no script, and its policy allows none; text of passages is escaped wherever it stands.
"""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibench.disk import write_atomic
from nibench.neuron_facts import effects, output_tokens, places
from nibench.passages import Passages
from nibench.reading import (
    Reading,
    bands,
    by_token,
    concepts,
    extremes,
    find_neuron,
    plain,
    read_neuron,
    statistics,
)
from nibench.rendering import environment
from nibench.wording import fine, listed, number

if TYPE_CHECKING:
    from nibench.model import LanguageModel

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
SITES = {
    "residual": "the residual stream after a block",
    "embed": "the residual stream before the first block",
    "mlp_post": "the hidden layer of a feed-forward block, after its non-linearity",
    "mlp_pre": "the hidden layer of a feed-forward block, before its non-linearity",
    "attn_out": "what an attention block writes to the residual stream",
}
TOP, TOKENS = 20, 15
TELLING = 0.1  # distance of an AUC from chance from which on the summary says what the neuron tells


@dataclass(frozen=True, eq=False)
class Inspection:
    """One neuron read on some text: ``document`` is all of it as plain JSON, ``page()`` the same to look at."""

    reading: Reading
    document: dict[str, Any]

    def page(self) -> str:
        """One HTML text; the same for the same document."""
        return render(self.document)

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        write_atomic(path, self.page().encode())

    def _repr_html_(self) -> str:
        frame = 'sandbox="" style="width:100%;height:40rem;border:0" title="nibench inspect"'
        return f'<iframe {frame} srcdoc="{html.escape(self.page())}"></iframe>'


def inspect(
    model: "LanguageModel",
    neuron: str,
    passages: Passages,
    *,
    top: int = TOP,
    results: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Read one neuron on the passages and collect what there is to see.

    Parameters
    ----------
    neuron : str
        Such as ``L2.mlp_post.15``.
    top : int
        How many of the strongest and of the lowest contexts.
    results : folders, optional
        Where to look for its rank under each method.

    Raises
    ------
    InputError
        For an unknown neuron, text without a token, results without a record of it.
    """
    tap, unit = find_neuron(model, neuron)
    ranked = places(model, neuron, results)
    reading = read_neuron(model, neuron, passages, progress)
    site = tap.block.name.rpartition(".")[2]
    return Inspection(
        reading,
        {
            "neuron": neuron,
            "model": Path(model.name).name if model.folder else model.name,
            "model_digest": model.digest,
            "architecture": model.architecture.model_type,
            "head": model.has_head,
            "layer": tap.block.layer,
            "layers": model.n_layers,
            "site": site,
            "where": SITES[site],
            "unit": unit,
            "width": tap.block.width,
            "source": {
                "text": reading.passages.source,
                "passages": len(reading.passages.items),
                "words": reading.passages.n_words,
                "notes": list(reading.passages.notes),
            },
            "statistics": statistics(reading),
            "colour": {"centre": plain(reading.centre), "limit": plain(reading.limit)},
            "concepts": concepts(reading),
            "effects": effects(model, neuron),
            **extremes(reading, top),
            "bands": bands(reading),
            "tokens": by_token(reading, TOKENS),
            "output": output_tokens(model, neuron, TOKENS),
            "places": ranked,
        },
    )


# ---------------------------------------------------------------- the page


def render(document: dict[str, Any]) -> str:
    """The page of a document."""
    from markupsafe import Markup

    templates = files("nibench") / "templates"
    style = "".join((templates / name).read_text(encoding="utf-8") for name in ("page.css", "inspect.css"))
    colour = document["colour"]
    made = environment(
        number=number,
        fine=fine,
        value=value,
        listed=listed,
        strength=lambda one: strength(one, colour["centre"], colour["limit"]),
        bars=bars,
    )
    return made.get_template("inspect.html.j2").render(
        found=document, lines=in_short(document), style=Markup(style), policy=POLICY
    )


def value(one: float) -> str:
    """An activation with three significant digits: 2.31, −.047, 0."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{one:.3g}").replace("-", "−")


def strength(one: float, centre: float, limit: float) -> int:
    """How much colour an activation has, −100 to 100: linear in its distance from the median."""
    return round(100 * max(-1.0, min(1.0, (one - centre) / limit))) if limit else 0


def bars(counts: Sequence[int], width: int = 400, height: int = 60) -> str:
    """The path of a histogram whose heights are the square roots of the shares: rare values stay visible."""
    tallest = max(counts, default=0)
    if not tallest:
        return ""
    step = width / len(counts)
    return "".join(
        f"M{i * step:.1f} {height}v{-height * (count / tallest) ** 0.5:.1f}h{step * 0.9:.1f}V{height}z"
        for i, count in enumerate(counts)
        if count
    )


def in_short(document: dict[str, Any]) -> list[str]:
    """What a reader should take away, in one to five lines."""
    lines = [line for row in document["effects"] if (line := _effect_line(row))][:2]
    telling = _most_telling(document["concepts"])
    if telling:
        lines.append(telling)
    found, middle = document["statistics"], document["colour"]["centre"]
    up, down = found["max"] - middle, middle - found["min"]
    ends = ("highest", "lowest") if up >= down else ("lowest", "highest")
    for end in ends if 2 * min(up, down) > max(up, down) else ends[:1]:
        tokens = [f"“{row['token']}”" for row in document["tokens"][end][:4]]
        if tokens:
            lines.append(f"{end.capitalize()} on average at {listed(tokens)}.")
    if down > 2 * up:
        lines.append(
            f"It reaches farther down (to {value(found['min'])}) than up ({value(found['max'])}) from its median: "
            "its lowest contexts may say more than its strongest."
        )
    return lines


def _effect_line(row: dict[str, Any]) -> str:
    """A sentence where the neuron has a role, or moves a tenth of a margin on its own."""
    moved = row["interchange"]
    if row["weight"] is not None:
        return f"Known: {_role(row)} for {row['concept']}; it carries {number(row['weight'])} of the margin."
    if row["role"] in ("decoy", "natural_decoy", "cancelled", "loud", "correlate"):
        return f"Known: a {_role(row)} for {row['concept']}: it tells the classes apart and does nothing."
    if row["role"] not in (None, "background"):
        return f"Known: {_role(row)} for {row['concept']}."
    if moved is not None and abs(moved) >= 0.1:
        return f"Measured: swapped alone, it moves {number(moved)} {row['unit']} of {row['concept']}."
    return ""


def _role(row: dict[str, Any]) -> str:
    return row["role"].replace("_", " ")


def _most_telling(found: Sequence[dict[str, Any]]) -> str:
    """The class that the neuron tells best, of all concepts."""
    rows = [(row, one["concept"]) for one in found for row in one["classes"] if row["auc"] is not None]
    if not rows:
        return ""
    row, concept = max(rows, key=lambda item: (abs(item[0]["auc"] - 0.5), item[0]["auc"]))
    if abs(row["auc"] - 0.5) < TELLING:
        return f"It hardly tells {concept} (AUC {number(row['auc'])})."
    side = "higher" if row["auc"] >= 0.5 else "lower"
    return f"Of {concept}, it is {side} for {row['class']} than for the rest (AUC {number(row['auc'])})."
