"""Recompute: every number on a board again, from what lies beside its record, without a model.

A record keeps each score; the arrays beside it keep what the score was made of: the ranking, sums per cluster
and what is known of the neurons. Each cluster carries a digest of its text, so that whatever shares sentences
can be resampled together.
"""

import hashlib
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from nibench.metrics.trial import Score, Setting, Trial
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.record import Record, ScoreRecord
from nibench.resampling import per_concept, ratio_of, slope
from nibench.task import CLAIMS, Truth

if TYPE_CHECKING:
    from nibench.activations import Activations

NATIVE = ("clusters", "named")  # of a ranking's evidence: what metrics read


def what_to_keep(trial: Trial, scores: Iterable[Score], data: "Activations") -> dict[str, np.ndarray]:
    """The arrays beside a record, by name: enough to compute all its scores again.

    ``scores`` (D,); per-cluster statistics ``{metric}/{name}``; ``clusters/items`` and ``clusters/behaviour``
    uint64 (G,), what the clusters of the ``eval`` items and prompts are; ``truth/...``, what is known of the
    neurons; ``evidence/...``, the native result where a metric reads it.
    """
    kept = {"scores": trial.ranking.scores}
    for score in scores:
        kept.update({f"{score.id}/{name}": values for name, values in score.clusters.items()})
    if any(name.endswith("/items") for name in kept):
        kept["clusters/items"] = _digests(_texts_of_clusters(data))
    if trial.setting.behaviour is not None:
        groups = np.unique(np.asarray(trial.setting.behaviour.groups))
        kept["clusters/behaviour"] = _digests(f"{data.digest}{g}" if g[0] == "#" else g for g in groups)
    if trial.setting.truth is not None:
        kept |= _kept_truth(trial.setting.truth)
        kept["ks"] = np.array(trial.setting.ks)
    for concept, other in trial.setting.other_behaviours().items() if "abl.spec/own" in kept else ():
        names = np.unique(np.asarray(other.groups))
        kept[f"clusters/behaviour[{concept}]"] = _digests(
            f"{data.digest}{concept}{g}" if g[0] == "#" else g for g in names
        )
    native = {name: getattr(trial.ranking.evidence, name, None) for name in NATIVE}
    return kept | {f"evidence/{name}": np.asarray(one) for name, one in native.items() if one is not None}


def _texts_of_clusters(data: "Activations") -> list[str]:
    """What each cluster of the ``eval`` items is, in the order of their ids: its text, or its place in a world."""
    rows = data.rows("eval")
    ids, first = np.unique(data.sentences[rows], return_index=True)
    if data.prompts is not None:
        prompts = [data.prompts[row] for row in rows[first]]
        return [prompt.group or prompt.text for prompt in prompts]
    texts = data.texts
    return [" ".join(texts[row]) for row in rows[first]] if texts else [f"{data.digest}{one}" for one in ids]


def _digests(texts: Iterable[str]) -> np.ndarray:
    whole = b"".join(hashlib.blake2b(str(text).encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(whole, dtype="<u8")


def _kept_truth(truth: Truth) -> dict[str, np.ndarray]:
    names, codes = np.unique(truth.roles.astype(str), return_inverse=True)
    kept = {"roles": codes.astype(np.uint8), "role_names": names, "null": np.array(truth.null)}
    kept |= {f"gains[{claim}]": gains for claim, gains in truth.gains.items()}
    kept |= {f"sets[{claim}]": relevant for claim, relevant in truth.sets.items()}
    for claim, scores in truth.oracles.items():  # of an oracle only the order counts
        kept[f"oracles[{claim}]"] = np.unique(scores, return_inverse=True)[1].astype(np.int32)
    labels = {"groups": truth.groups, "neuron_labels": truth.neuron_labels}
    kept |= {name: of_each for name, of_each in labels.items() if of_each is not None}
    return {f"truth/{name}": values for name, values in kept.items()}


def kept_truth(arrays: Mapping[str, np.ndarray]) -> Truth | None:
    """The truth that the arrays beside a record hold; None where nothing is known of the neurons."""
    if "truth/roles" not in arrays:
        return None

    def per_claim(kind: str) -> dict:
        return {c: arrays[f"truth/{kind}[{c}]"] for c in CLAIMS if f"truth/{kind}[{c}]" in arrays}

    return Truth(
        gains=per_claim("gains"),
        sets=per_claim("sets"),
        roles=arrays["truth/role_names"][arrays["truth/roles"]],
        oracles={claim: order.astype(np.float64) for claim, order in per_claim("oracles").items()},
        groups=arrays.get("truth/groups"),
        neuron_labels=arrays.get("truth/neuron_labels"),
        null=bool(arrays["truth/null"]),
    )


def native_evidence(arrays: Mapping[str, np.ndarray]) -> SimpleNamespace | None:
    """What metrics read of a ranking's native result, from the arrays beside a record; None where it had none."""
    native = {name: arrays[f"evidence/{name}"] for name in NATIVE if f"evidence/{name}" in arrays}
    return SimpleNamespace(**native) if native else None


def recompute(record: Record, arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float | None]]:
    """Metric -> (value, normalised) of every score that the arrays allow to compute again, without a model.

    Scores against the truth are measured anew; those on items are their per-cluster sums, and their scale is
    what the record says random rankings and the ceiling score.
    """
    found = {score.id: (score.value, score.normalised) for score in _against_truth(record, arrays)}
    for score in record.scores:
        ratio = ratio_of(record, arrays, score.id)
        value = _from_parts(score, arrays) if ratio is None else ratio.value
        if value is not None:
            found[score.id] = value, _normalised(score, value)
    return found


def _from_parts(score: ScoreRecord, arrays: Mapping[str, np.ndarray]) -> float | None:
    """What is no ratio of sums: differences and means of several, a distance from a curve, overlaps of halves."""
    from nibench.metrics.faithfulness import area_of_sums
    from nibench.metrics.specificity import FORMULAS, of_clusters
    from nibench.metrics.stability import overlaps_of

    if score.id in FORMULAS:
        parts = per_concept(arrays, score.id)
        return of_clusters(score.id, parts) if parts else None
    kept, at_stake = arrays.get(f"{score.id}/kept"), arrays.get(f"{score.id}/at_stake")
    if kept is not None and at_stake is not None:
        return float(area_of_sums(np.append(kept.sum(axis=0), at_stake.sum()), score.id))
    halves = arrays.get(f"{score.id}/halves")
    return None if halves is None else float(overlaps_of(halves, score.k[0]).mean())


def _against_truth(record: Record, arrays: Mapping[str, np.ndarray]) -> tuple[Score, ...]:
    from nibench.metrics import measure

    truth = kept_truth(arrays)
    if truth is None:
        return ()
    ranking = Ranking(arrays["scores"], evidence=native_evidence(arrays))
    return measure(truth_trial(ranking, truth, len(record.classes), arrays["ks"].tolist()))


def truth_trial(ranking: Ranking, truth: Truth, n_classes: int, ks: Iterable[int]) -> Trial:
    """A ranking against a known truth and nothing else: no items, no model."""
    setting = Setting(
        neurons=Neurons.anonymous(ranking.n_neurons),
        n_classes=n_classes,
        splits={},
        controls=(),
        truth=truth,
        behaviour=None,
        ks=tuple(ks),
        ablation_ks=(),
        seed=0,
        metrics="truth",
    )
    return Trial(setting, ranking)


def _normalised(score: ScoreRecord, value: float) -> float | None:
    scale = slope(score)
    if scale is None:
        return None
    return scale * (value - score.details.get("random", score.chance))
