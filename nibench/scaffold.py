"""``nibench new``: a file to start from, which passes ``nibench check`` as it stands; or the card of rankings."""

import keyword
from pathlib import Path
from typing import Literal

from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.submissions import ID, names

METHOD = '''"""{title}: say in one line how neurons are ranked.

The idea in plain words: why does a neuron that scores high here matter for the concept?

Paper: Author, "Title", Venue Year. https://...
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class {class_name}(Method):
    """Your hyper-parameters are the fields below; records keep them."""

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "other"
    complexity: ClassVar[str] = "O(ND), one pass"
    limits: ClassVar[str] = "One neuron at a time: misses what only several tell together."
    power: float = 1.0

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in data.by_class()])  # (C, D)
        gap = (means.max(axis=0) - means.min(axis=0)) / data.spread()  # (D,)
        return Ranking.from_scores(gap**self.power)
'''

TASK = '''"""{title}: say in one line what is asked of the model."""

from nibench import Task, control, sources

task = Task(
    concept="{name}",
    classes=("Sing", "Plur"),
    source=sources.word_labels("ud/en_ewt", column="Number", where={{"upos": ("NOUN",)}}),
    control=control.random_label_per_word_type(),
    paper="",
    licence="",
)
'''

CARD = """{{
 "family": "other",
 "claims": "associated",
 "direction": "concept->neurons",
 "needs": ["ACTIVATIONS", "LABELS"],
 "complexity": "O(ND), one pass",
 "limits": "One neuron at a time: misses what only several tell together.",
 "paper": "",
 "summary": "{title}: say in one line how neurons are ranked."
}}
"""
TEXTS = {"method": METHOD, "task": TASK, "card": CARD}


def write_new(kind: Literal["method", "task", "card"], name: str, folder: Path | None = None) -> Path:
    """Write ``{name}.py``, of a card ``{name}.json``, into ``folder`` (default: here).

    Raises
    ------
    InputError
        For a name that is no identifier, that is taken, or a file that exists.
    """
    if not ID.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(
            f"{name!r} is no id; expected lower case, digits and underscores, 60 at most: nibench new {kind} my_idea"
        )
    what = "task" if kind == "task" else "method"
    if name in names("tasks" if kind == "task" else "methods"):
        raise InputError(
            f"There is a {what} {name!r} already; choose another id, or see: nibench show {name}"
        )
    path = (folder or Path()) / f"{name}{'.json' if kind == 'card' else '.py'}"
    if path.exists():
        raise InputError(f"{path} exists; choose another id, or delete it first.")
    title = name.replace("_", " ").capitalize()
    text = TEXTS[kind].format(
        title=title, name=name, class_name="".join(part.capitalize() for part in name.split("_"))
    )
    write_atomic(path, text.encode())
    return path
