"""Made-up records for the tests of boards and page: plausible in shape, wrong in every number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nibench.metrics.curves import log_auc
from nibench.record import Card, Cell, Cost, Environment, Record, ScoreRecord, write_record

METHODS: dict[str, tuple[str, str, list[str], float, float]] = {  # family, claim, needs, encodes, carries
    "random_ranking": ("baseline", "none", [], 0.0, 0.0),
    "variance": ("baseline", "none", ["ACTIVATIONS"], 0.12, 0.08),
    "mean_difference": ("baseline", "associated", ["ACTIVATIONS", "LABELS"], 0.74, 0.31),
    "probeless": ("corpus search", "associated", ["ACTIVATIONS", "LABELS"], 0.72, 0.3),
    "lca": ("linear", "associated", ["ACTIVATIONS", "LABELS"], 0.86, 0.22),
    "linear_l1": ("linear", "associated", ["ACTIVATIONS", "LABELS"], 0.84, 0.2),
    "linear_l2": ("linear", "associated", ["ACTIVATIONS", "LABELS"], 0.7, 0.27),
    "gaussian_probe": ("gaussian", "associated", ["ACTIVATIONS", "LABELS"], 0.93, 0.18),
    "expert_units": ("corpus search", "associated", ["ACTIVATIONS", "LABELS"], 0.79, 0.29),
    "neuron_ablation": ("ablation", "required", ["MODEL"], 0.35, 0.68),
    "gradient_activation": ("attribution", "required", ["MODEL"], 0.4, 0.62),
    "integrated_gradients": ("attribution", "required", ["MODEL"], 0.42, 0.77),
}
TASKS = ("gender_glass", "number_glass", "number_world", "tense_glass")
MODELS = ("glass-s", "glass-s-twin")
ROLES = ("used", "decoy", "natural_decoy", "background")


def score(metric: str, value: float, normalised: float | None = None, **more: Any) -> ScoreRecord:
    """One metric's value, higher is better unless said otherwise."""
    more = {"unit": "share", "direction": 1} | more
    return ScoreRecord(id=metric, value=value, normalised=normalised, **more)


def record(
    method: str = "lca",
    task: str = "number_glass",
    model: str | None = "glass-s",
    *,
    scores: Sequence[ScoreRecord] = (),
    status: str = "ok",
    card: Mapping[str, Any] | None = None,
    digests: Mapping[str, str] | None = None,
    cost: Cost | None = None,
    seed: int = 0,
    **more: Any,
) -> Record:
    """A record with everything that the test does not name filled in."""
    named = {"family": "linear", "claims": "associated", "direction": "concept->neurons", "needs": ["LABELS"]}
    digest = {
        name: f"{of}-1" for name, of in (("method", method), ("task", task), ("data", task), ("model", model))
    }
    return Record.model_validate(
        {
            "cell": Cell(method=method, task=task, model=model, site="mlp_post", seed=seed),
            "status": status,
            "card": Card(**(named | dict(card or {}))),
            "concept": task.split("_")[0],
            "digests": digest | dict(digests or {}),
            "versions": {"nibench": "0.1.0"},
            "scores": list(scores),
            "cost": cost,
            "command": f"nibench run --method {method} --task {task} --model {model}",
            "environment": Environment(
                date="2026-01-01", platform="any", processor="any", device="cpu", threads=1, versions={}
            ),
        }
        | more
    )


def results_folder(folder: Path, methods: int = 12, tasks: int = 4, seed: int = 0) -> Path:
    """Write records of many methods x tasks x two models; returns the results folder."""
    rng = np.random.default_rng(seed)
    base = list(METHODS.items())
    for index in range(methods):
        name, profile = base[index % len(base)]
        label = name if index < len(base) else f"{name}_{index // len(base) + 1}"
        for position in range(tasks):
            task = TASKS[position] if position < len(TASKS) else f"concept{position}_glass"
            for model in MODELS if task != "number_world" else (None,):
                arrays = {"scores": rng.gamma(1.0, size=64)}
                write_record(_made_up(label, profile, task, model, rng), arrays, folder / "records")
    return folder


def scorecard_folder(
    folder: Path, methods: int = 20, tasks: int = 10, clusters: int = 600, models: int = 5, seed: int = 0
) -> Path:
    """Records with everything that a full scorecard rests on: sums of each sentence, and the truth.

    ``tasks`` cells a method, spread over ``models`` truth models; all tasks read the same ``clusters`` sentences.
    """
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 2**63, clusters).astype(np.uint64)
    items = rng.integers(3, 12, clusters).astype(float)
    hard = rng.normal(0, 0.1, size=(clusters, 1))  # what all methods share
    gains = {task: rng.gamma(0.2, size=128) for task in range(tasks)}
    base = list(METHODS.items())
    for index in range(methods):
        name, (family, claim, needs, encodes, carries) = base[index % len(base)]
        label = name if index < len(base) else f"{name}_{index // len(base) + 1}"
        card = {"family": family, "claims": claim, "needs": needs}
        for task in range(tasks):
            scores, arrays = [], {"clusters/items": ids, "clusters/behaviour": ids}
            shapes = (
                ("probe.auc[lda]", "hits", "items", encodes),
                ("probe.auc[qda]", "hits", "items", encodes),
            )
            shapes += (("abl.auc[interchange]", "moved", "at_stake", carries),)
            shapes += (("abl.auc[mean]", "moved", "at_stake", carries * 0.9),)
            for metric, top, bottom, level in shapes:
                made, sums = with_sums(metric, level, items, hard, rng, (top, bottom))
                scores.append(made)
                arrays |= sums
            lda, qda = scores[:2]
            both = (lda.value + qda.value) / 2
            scores.append(lda.model_copy(update={"id": "encodes", "value": both, "normalised": both}))
            for claim_ in ("associated", "responds", "carries", "required"):
                right = float(np.clip(carries + rng.normal(0, 0.1), -1, 1))
                scores += [score(f"gt.{kind}[{claim_}]", right, right) for kind in ("ndcg", "ap", "energy")]
            scores.append(score("gt.decoy", float(rng.random()), 0.0, direction=-1))
            arrays |= {"scores": rng.gamma(1.0, size=128), "truth/gains[carries]": gains[task]}
            made = record(
                *(label, f"concept{task}_glass", f"glass-{task % models}"),
                scores=scores, card=card, lineage=f"glass-{task % models}", tier="glass-box", n_neurons=128,
                cost=Cost(seconds=0.1, forward=100.0, backward=0.0, peak_memory_mb=300.0),
            )  # fmt: skip
            write_record(made, arrays, folder / "records")
    return folder


def with_sums(
    metric: str,
    level: float,
    items: np.ndarray,
    hard: np.ndarray,
    rng: Any,
    names: tuple[str, str] = ("hits", "items"),
    ks: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
) -> tuple[ScoreRecord, dict[str, np.ndarray]]:
    """A score that is an area under a curve of ratios, 0 for random rankings and 1 at the ceiling; and its sums."""
    shares = level + hard + rng.normal(0, 0.05, size=(len(items), len(ks)))
    top = shares * items[:, None]
    value = float(log_auc(ks, top.sum(axis=0) / items.sum()))
    details = {"random": 0.0}
    curve = tuple((top.sum(axis=0) / items.sum()).tolist())
    made = score(
        metric,
        value,
        value,
        k=ks,
        curve=curve,
        ceiling=1.0,
        chance=0.0,
        details=details,
        n_clusters=len(items),
    )
    return made, {f"{metric}/{names[0]}": top, f"{metric}/{names[1]}": items}


def _made_up(
    label: str, profile: tuple[str, str, list[str], float, float], task: str, model: str | None, rng: Any
) -> Record:
    family, claim, needs, encodes, carries = profile
    card = {"family": family, "claims": claim, "needs": needs, "summary": f"What {label} does, in a line."}
    card["paper"] = "Nobody, 2026. https://example.org/paper" if family != "baseline" else ""
    card |= {
        "scope": "both" if family == "ablation" else "global",
        "input": "concept",
        "output": "neurons",
        "scalability": {"gaussian": "medium", "ablation": "low"}.get(family, "high"),
        "human_in_the_loop": label == "expert_units",
        "supervision": "LABELS" in needs,
        "causation": "MODEL" in needs,
    }
    if label == "neuron_ablation":
        card["shares_estimand"] = ["required"]
    tier = "world" if model is None else "twin" if model.endswith("twin") else "glass-box"
    about = {"card": card, "tier": tier}
    if model is None and "MODEL" in needs:
        return record(label, task, None, **about, status="not_applicable", reason="a world has no model")
    if label == "linear_l2" and task == "tense_glass" and model == "glass-s-twin":
        return record(label, task, model, **about, status="failed", reason="did not converge in 30 s")
    scores = _scores(encodes, carries, model is None, rng)
    used = float(np.clip(10 * carries + rng.normal(0, 0.3), 0, 10))
    roles = dict(zip(ROLES, (used, 0.2 * (10 - used), 0.5 * (10 - used), 0.3 * (10 - used)), strict=True))
    if model is not None:
        anatomy = {"5": {role: share / 2 for role, share in roles.items()}, "10": roles}
        scores.append(score("gt.anatomy", 5, direction=0, unit="neurons", details={"anatomy": anatomy}))
    passes = 4096.0 if "MODEL" in needs else 0.0
    return record(
        label,
        task,
        model,
        **about,
        scores=scores,
        n_neurons=64,
        top=[f"L{i % 4}.mlp_post.{i}" for i in range(8)],
        cost=Cost(
            seconds=float(rng.gamma(2.0, 0.3)),
            forward=passes,
            backward=passes if family == "attribution" else 0.0,
            peak_memory_mb=300.0,
        ),
    )


def _scores(encodes: float, carries: float, world: bool, rng: Any) -> list[ScoreRecord]:
    def near(level: float) -> float:
        return float(level + rng.normal(0, 0.05))

    lda, qda = near(encodes), near(encodes)
    ks = (1, 2, 4, 8, 16, 32)
    scores = [
        score("encodes", (lda + qda) / 2, (lda + qda) / 2, ci95=(lda - 0.05, lda + 0.05)),
        score("probe.auc[lda]", lda, lda, k=ks, curve=tuple(lda * k / 32 for k in ks)),
        score("probe.auc[qda]", qda, qda),
        score("sel.kappa", near(encodes / 2)),
        score("gt.ndcg[associated]", near(encodes), near(encodes)),
        score("gt.ap[associated]", near(encodes), near(encodes)),
    ]
    if world:
        return scores
    curve = tuple(carries * k / 32 for k in ks)
    scores += [score("abl.auc[interchange]", near(carries), near(carries), k=ks, curve=curve)]
    scores += [score("abl.auc[mean]", near(carries), near(carries * 0.9), k=ks, curve=curve)]
    for claim, level in (("responds", 0.6), ("carries", carries), ("required", carries * 0.9)):
        scores += [score(f"gt.ndcg[{claim}]", near(level), near(level))]
        scores += [score(f"gt.ap[{claim}]", 0.5, near(level))]
    scores += [score("gt.decoy", near(0.5 - carries / 2), direction=-1, unit="rate")]
    return scores
