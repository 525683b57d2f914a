"""Cards: what a method, a task or a metric is, for a reader of the page. What is not known is left out."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from nibench import metric_cards
from nibench.axes import AXES
from nibench.errors import InputError
from nibench.record import Card, Record
from nibench.results import TIERS, Results
from nibench.submissions import find_task, load_file
from nibench.submitted import Standing
from nibench.views import FLAGS, NATURAL
from nibench.wording import listed, number, plain

Facts = list[tuple[str, str]]
TRACKS = {**TIERS, NATURAL: "a natural model on real text, truth not known"}  # in the order of the filter
CONTROLS = {"random_model": "untrained model", "shuffle": "shuffled labels", "type": "labels by word"}


def method_cards(results: Results) -> dict[str, dict[str, Any]]:
    """Method -> what the filters ask (family, claims, criteria, ...) and the facts of its card."""
    backward: set[str] = set()
    for (method, _), seeds in results.cells.items():
        if any(s.record.cost is not None and s.record.cost.backward > 0 for s in seeds):
            backward.add(method)
    return {
        method: _method(card, method in backward, results.standing(method))
        for method, card in results.cards.items()
    }


def _method(card: Card, gradients: bool, standing: Standing | None) -> dict[str, Any]:
    needs = [need.lower() for need in card.needs] + ["gradients"] * gradients
    link = re.search(r"https?://[^\s<>\"']+[^\s<>\"'.,;)]", card.paper)
    known = bool(card.scope)  # records of old hold no criteria
    facts = [
        ("family", card.family),
        ("claims", card.claims),
        ("needs", ", ".join(needs) or "nothing"),
        ("scope", card.scope),
        ("from, to", f"{card.input} → {card.output}" if known else ""),
        ("supervision", _yes(card.supervision) if known else ""),
        ("human in the loop", _yes(card.human_in_the_loop) if known else ""),
        ("causation", _yes(card.causation) if known else ""),
        ("scalability", card.scalability),
        ("complexity", card.complexity),
        ("limits", card.limits),
        ("paper", card.paper),
    ]
    return {
        "family": card.family,
        "claims": card.claims,
        "runs": "gradients" if gradients else "model" if "model" in needs else "activations",
        "scope": card.scope,
        "supervision": _yes(card.supervision) if known else "",
        "human": _yes(card.human_in_the_loop) if known else "",
        "causation": _yes(card.causation) if known else "",
        "scalability": card.scalability,
        "under": [  # its name
            card.family,
            *([f"claims {card.claims}"] if card.claims != "none" else []),
            *([standing] if standing else []),
        ],
        "standing": standing,
        "summary": plain(card.summary),
        "link": link.group(0) if link else None,
        "facts": _there(facts),
    }


def task_cards(results: Results) -> list[dict[str, Any]]:
    """What the records hold of each task and, where it is a bundled one in this very version, what its file says."""
    records: dict[str, list[Record]] = {task: [] for task in results.tasks}
    for (_, place), seeds in results.cells.items():
        records[place.task] += [stored.record for stored in seeds]
    return [{"id": task, **_task(results, task, records[task])} for task in results.tasks]


def _task(results: Results, task: str, records: Sequence[Record]) -> dict[str, Any]:
    places = [place for place in results.places if place.task == task]
    about, said = _file_says(task, records[0].digests.get("task", ""))
    tiers = _unique(results.tier(place) or NATURAL for place in places)
    models = _unique(place.model for place in places)
    claims = [axis.claim for axis in AXES if axis.of_truth and axis.claim]
    known = [c for c in claims if any(record.score(f"gt.ndcg[{c}]") for record in records)]
    facts = [
        ("concept", records[0].concept),
        ("classes", ", ".join(records[0].classes)),
        ("track", listed([f"{tier} ({TRACKS[tier]})" if tier in TRACKS else tier for tier in tiers])),
        ("models", listed(models, most=8) or "none: its activations are sampled"),
        ("known", listed(known) if known else "nothing: no truth, only behaviour and probes"),
        ("neurons", _range(record.n_neurons for record in records)),
        ("items scored", _range(s.n_items or 0 for r in records if (s := r.score("encodes")))),
        ("sentences", _range(s.n_clusters or 0 for r in records if (s := r.score("encodes")))),
        *said,
        ("notes", " ".join(_unique(note for record in records for note in record.notes)[:4])),
        ("version", records[0].digests.get("task", "")[:12]),
    ]
    return {"about": plain(about), "facts": _there(facts)}


def _file_says(task: str, digest: str) -> tuple[str, Facts]:
    """The first line of a bundled task's file, and its source, paper and licence; nothing of another version."""
    try:
        file = find_task(task)
        if file.digest != digest:
            return "", []
        found = file.load()
    except InputError:
        return "", []
    about = (load_file(file.path).__doc__ or "").strip().partition("\n")[0]
    return about, [("paper", found.paper), ("licence", found.licence)]


def metric_cards_of(results: Results) -> list[dict[str, Any]]:
    """The metrics that the records hold: what each measures, what it is worth, which column shows it."""
    from nibench.metrics import ABOUT

    there = {score.id: score for stored in results.stored for score in stored.record.scores}
    columns = {axis.metric: axis.title for axis in AXES} | {metric: name for name, metric in FLAGS.items()}
    cards = []
    for name, about in ABOUT.items():
        shown = [metric for metric in there if metric == name or _pattern(name).fullmatch(metric)]
        if not shown:
            continue
        titles = _unique(columns[metric] for metric in sorted(shown) if metric in columns)
        score = there[shown[0]]
        better = {1: "higher is better", -1: "lower is better"}.get(score.direction, "orders nothing")
        facts = [("column", listed(titles)), ("unit", f"{score.unit}; {better}"), *_worth(name)]
        cards.append({"id": name, "metrics": sorted(shown), "about": about, "facts": _there(facts)})
    return cards


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace("CLAIM", "(associated|responds|carries|required)"))


def _worth(metric: str) -> Facts:
    """What the study of metrics found of it, in models whose neurons are known."""
    card = metric_cards.shipped().get(metric, {})
    if not card:
        return []
    truth = [f"{claim} {_estimate(one)}" for claim, one in card["truth"].items() if one]
    controls = [f"{CONTROLS.get(name, name)} {number(value)}" for name, value in card["controls"].items()]
    saturation = card["saturation"]
    return [
        ("verdict", metric_cards.words(metric) or ""),
        ("agreement with the truth of", "; ".join(truth)),
        ("one half against the other", _estimate(card["halves"])),
        ("at its ceiling", f"{100 * saturation:.0f} % of cells" if saturation is not None else ""),
        ("where there is nothing to find", "; ".join(controls)),
        (
            "not at chance there",
            listed([CONTROLS.get(str(name), str(name)) for name in card["not_at_chance"]]),
        ),
    ]


def _estimate(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    ends = f" [{number(found['ci95'][0])}, {number(found['ci95'][1])}]" if found["ci95"] else ""
    return f"{number(found['value'])}{ends}"


def _there(facts: Iterable[tuple[str, str]]) -> Facts:
    return [(name, plain(text)) for name, text in facts if text]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, values)))


def _range(values: Iterable[int]) -> str:
    found = sorted({value for value in values if value})
    return "" if not found else f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
