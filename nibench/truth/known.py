"""What is known of one concept's neurons in one truth model, from its files: the task's `Truth`."""

from pathlib import Path

import numpy as np

from nibench.neurons import Neurons
from nibench.task import Claim, Truth
from nibench.truth import files

NATURAL_DECOY_AUC = 0.95  # either way, from which an undesignated neuron is a natural decoy
GROUPED = ("backup", "copy")


def tier_of(folder: Path) -> str:
    """What kind of truth model a folder holds: `glass-box`, `middle` or `twin`."""
    twin = None if (folder / "truth.json").is_file() else files.read_twin(folder)
    return "glass-box" if twin is None else "middle" if twin.kind == "middle" else "twin"


def known_truth(folder: Path, concept: str, behaviours: tuple[str, ...], neurons: Neurons) -> Truth | None:
    """Gains per claim from the stored exhaustive effects; roles, groups and the set where the model has them.

    *associated* 2 |AUC - 1/2|, *responds* as measured, *required* |mean ablation|; *carries* the Shapley
    weight in a glass-box (a set, too), |interchange| in a twin or a middle: each the mean over behaviours.
    Groups are those of backups and of copies. With two classes, a neuron stands for the one it is more active
    for, where it was planted or tells them apart (natural decoys).

    Parameters
    ----------
    behaviours
        Some of the concept's certified ones.
    neurons
        Of ``mlp_post``, in any layers.

    Returns
    -------
    Truth or None
        A null concept of a glass-box has roles only; one that a word shows and nothing depends on has gains for
        *associated* and *responds*, too. None where a twin has no effects for the concept.
    """
    box = files.glassbox_of(folder)
    known = files.read_truth(box).concept(concept)
    planted = folder == box
    tier, lineage = tier_of(folder), box.name
    effects = files.read_effects(folder)
    names = [f"{concept}.{behaviour}" for behaviour in behaviours]
    if any(f"{name}.{kind}" not in effects for name in names for kind in files.EFFECTS):
        if planted and known.is_null:
            return Truth({}, {}, _roles(known, neurons), null=True, tier=tier, lineage=lineage)
        return None
    place = {name: i for i, name in enumerate(effects["neurons"].tolist())}
    chosen = np.array([place[name] for name in neurons])

    def mean(kind: str) -> np.ndarray:
        values = np.stack([effects[f"{name}.{kind}"][chosen] for name in names])
        return values.astype(np.float64).mean(axis=0)

    auc, interchange = mean("auc"), np.abs(mean("interchange"))
    gains: dict[Claim, np.ndarray] = {
        "associated": 2 * np.abs(auc - 0.5),
        "responds": mean("responds"),
        "carries": interchange,
        "required": np.abs(mean("mean")),
    }
    if not planted:
        return Truth(gains, {}, np.full(len(neurons), "background"), tier=tier, lineage=lineage)
    telling = np.maximum(auc, 1 - auc) >= NATURAL_DECOY_AUC
    roles = _roles(known, neurons)
    listed = roles != "background"
    roles = np.where(telling & ~listed, "natural_decoy", roles)
    if known.is_null:
        told: tuple[Claim, ...] = ("associated", "responds") if known.is_unused else ()
        encoded: dict[Claim, np.ndarray] = {claim: gains[claim] for claim in told}
        return Truth(encoded, {}, roles, null=True, tier=tier, lineage=lineage)
    gains["carries"] = np.array([_weight(known, name) for name in neurons])
    classes = np.where(telling | listed, (auc > 0.5).astype(int), -1)
    return Truth(
        gains,
        {"carries": np.isin(roles, list(files.CARRIERS))},
        roles,
        {"carries": interchange},  # the exhaustive single effects, against the planted weights
        _groups(known, neurons),
        classes if len(known.classes) == 2 else None,
        tier=tier,
        lineage=lineage,
    )


def _roles(known: files.ConceptTruth, neurons: Neurons) -> np.ndarray:
    """(D,) str: the declared roles, the rest background."""
    return np.array([known.neurons[name].role if name in known.neurons else "background" for name in neurons])


def _weight(known: files.ConceptTruth, name: str) -> float:
    return (known.neurons[name].weight or 0.0) if name in known.neurons else 0.0


def _groups(known: files.ConceptTruth, neurons: Neurons) -> np.ndarray | None:
    """int (D,): the groups of backups and copies numbered from 0, -1 elsewhere; None where there are none."""
    keys = {name: (one.role, one.group) for name, one in known.neurons.items() if one.role in GROUPED}
    number = {
        key: i for i, key in enumerate(dict.fromkeys(key for key in keys.values() if key[1] is not None))
    }
    return np.array([number.get(keys.get(name, ("", None)), -1) for name in neurons]) if number else None
