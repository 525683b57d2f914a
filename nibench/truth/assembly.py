"""From trained weights to a truth: measure what was designated, leave out what does not hold, write the rest.

Decoys that did not form are dropped, carriers under the floor pruned, behaviours that miss a row left out,
each by name and number; a concept needs two behaviours (one where the grammar has one), a model two concepts
besides nulls (fewer where fewer were planted).
Concepts that need no training, those of words on which no later word depends, are added to what was written.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nibench.disk import digest
from nibench.errors import NotCertified
from nibench.truth import certificate as ct
from nibench.truth import decoys as dc
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar, rotated, unused
from nibench.truth.confinement import Designation
from nibench.truth.pairs import Pair
from nibench.truth.rows import Effort, Row, concept_rows, share_floor, shares_of

LEAST_CONCEPTS = 2
ROLES: dict[str, files.Role] = {"relay": "relay", "backup": "backup", "conjunctive": "conjunctive"}
PAIRS_FOLDER = f"pairs-{grammar.NAME}"


@dataclass(frozen=True)
class Assembled:
    """One concept that holds, or (`known` None) the rows that kept it out."""

    known: files.ConceptTruth | None
    rows: tuple[Row, ...]
    left_out: tuple[Row, ...]
    dropped: dict[str, str]  # decoys that did not form -> the figure that says so
    pruned: tuple[str, ...]  # carriers under the floor


def assemble(
    folder: Path,
    designations: Sequence[Designation],
    pairs: Mapping[tuple[str, str], Sequence[Pair]],
    *,
    header: Mapping[str, Any],
    notes: Mapping[str, Any],
    effort: Effort,
    progress: ex.Progress = ex.silent,
) -> ct.Certificate:
    """Write `truth.json`, `certificate.json` and `effects.npz` of a model folder.

    Parameters
    ----------
    folder
        Configuration, tokenizer and weights, as they will be shipped.
    designations
        What was trained to hold.
    pairs
        The `eval` pairs of each of its behaviours.
    header
        `seed`, `split` and `twin` of the truth.
    notes
        What else the certificate keeps.

    Raises
    ------
    NotCertified
        If fewer than two concepts hold.
    """
    (folder / "certificate.json").unlink(missing_ok=True)
    engine = ex.Engine(folder)
    measured = ex.effects(engine, pairs, n=effort.single_pairs, n_probe=effort.probe_pairs, progress=progress)
    for one in designations:
        if one.rotated is not None:
            basis = one.rotated.directions.double().numpy()
            measured |= rotated.as_effects(folder, one.concept, one.rotated.layer, basis)
    files.write_effects(folder / "effects.npz", measured)  # where the rows find directions; cut down below
    found = {}
    for one in designations:
        progress(f"{folder.name} {one.concept}: what holds")
        own = {b: some for (concept, b), some in pairs.items() if concept == one.concept}
        found[one.concept] = _assemble_concept(engine, one, designations, own, measured, effort, progress)
    holding = {concept: one for concept, one in found.items() if one.known is not None}
    left_out = [row for one in found.values() for row in one.left_out]
    least = min(LEAST_CONCEPTS, sum(bool(one.parts) for one in designations))
    if not holding or sum(not one.known.is_null for one in holding.values() if one.known) < least:
        option = " --rotated" if any(one.rotated for one in designations) else ""
        lines = "; ".join(ct.Certificate(folder.name, (), tuple(left_out)).lines())
        seed = header["seed"]
        raise NotCertified(
            f"Seed {seed} certified {len(holding)} concepts, too few ({lines}). "
            f"Try another: nibench build glassbox --seed {int(seed) + 1}{option} --out DIR"
        )
    truth = {
        "schema": 1,
        "model_sha256": digest(folder / "model.safetensors"),
        **header,
        "concepts": {
            concept: {"neurons": {}, **one.known.model_dump(exclude_defaults=True)}
            for concept, one in holding.items()
            if one.known
        },
    }
    files.write_text(folder / "truth.json", json.dumps(truth, indent=1) + "\n")
    rows = [row for one in holding.values() for row in one.rows]
    rows += ct.leak_rows(engine, files.read_truth(folder))
    certificate = ct.Certificate(folder.name, tuple(rows), tuple(left_out))
    all_notes = {
        **notes,
        "decoys_dropped": {name: why for one in found.values() for name, why in one.dropped.items()},
        "pruned": [name for one in found.values() for name in one.pruned],
    }
    content = ct.certificate_json(certificate, truth["model_sha256"], all_notes)
    files.write_text(folder / "certificate.json", json.dumps(content, indent=1) + "\n")
    files.write_effects(folder / "effects.npz", only(measured, certificate.behaviours()))
    return add_unused(folder, effort=effort, progress=progress)


@ex.one_thread()
def add_unused(folder: Path, *, effort: Effort, progress: ex.Progress = ex.silent) -> ct.Certificate:
    """Measure the concepts of unused words in a glass-box, and add to its files those that hold.

    The weights stay as they are. What the files said of these concepts is replaced; those that miss are listed
    as left out.

    Returns
    -------
    Certificate
        The whole, with what was there.
    """
    truth, stored = (files.read_json(folder / f"{name}.json") for name in ("truth", "certificate"))
    effects = files.read_effects(folder)
    for rows in (stored["rows"], stored["left_out"]):
        rows[:] = [row for row in rows if row["concept"] not in grammar.UNUSED]
    engine = ex.Engine(folder)
    for concept in grammar.UNUSED:
        progress(f"{folder.name} {concept}.{grammar.NONE}: an unused word")
        truth["concepts"].pop(concept, None)
        effects = {name: one for name, one in effects.items() if not name.startswith(f"{concept}.")}
        known = unused.known(concept, PAIRS_FOLDER)
        pairs = files.read_pair_file(folder / known.behaviours[grammar.NONE].pairs, concept, grammar.NONE)
        rows, measured = unused.rows(engine, concept, pairs, effort)
        holds = not any(not_held(row) for row in rows)
        stored["rows" if holds else "left_out"] += [ct.plain(row) for row in rows if holds or not_held(row)]
        if holds:
            truth["concepts"][concept] = {"neurons": {}, **known.model_dump(exclude_defaults=True)}
            effects |= measured
    files.write_effects(folder / "effects.npz", effects)
    for name, content in (("certificate", stored), ("truth", truth)):
        files.write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    found = (tuple(Row(**row) for row in stored[kind]) for kind in ("rows", "left_out"))
    return ct.Certificate(folder.name, *found)


def only(measured: Mapping[str, np.ndarray], cells: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
    """The effects on some behaviours, and the directions of their concepts."""
    wanted = {f"{concept}.{name}" for concept, behaviour in cells for name in (behaviour, rotated.DIRECTION)}
    return {
        name: values
        for name, values in measured.items()
        if name == "neurons" or name.rpartition(".")[0] in wanted
    }


def _assemble_concept(
    engine: ex.Engine,
    one: Designation,
    designations: Sequence[Designation],
    pairs: Mapping[str, Sequence[Pair]],
    measured: Mapping[str, np.ndarray],
    effort: Effort,
    progress: ex.Progress,
) -> Assembled:
    wanted = list(pairs)
    least = min(2, len(wanted))
    neurons = _designated(one, designations)
    dropped: dict[str, str] = {}
    pruned: list[str] = []
    left_out: list[Row] = []
    while True:
        own = {behaviour: pairs[behaviour] for behaviour in wanted}
        known = _with_weights(engine, one, neurons, own, effort)
        weak = _below_floor(engine, known, own, effort)
        if weak and len(known.carriers()) > len(weak):
            progress(f"carriers under the floor: {', '.join(weak)}")
            pruned += weak
            neurons = {name: value for name, value in neurons.items() if name not in weak}
            kept = {value.decoy for value in neurons.values()}
            neurons = {
                name: value for name, value in neurons.items() if value.role != "decoy" or name in kept
            }
            continue
        some = {behaviour: chosen[: effort.pairs] for behaviour, chosen in own.items()}
        missing = dc.missing_decoys(engine, one.concept, known, some, effort.probe_pairs)
        if missing:
            progress(f"decoys that did not form: {', '.join(missing)}")
            dropped |= missing
            neurons = {
                name: value.model_copy(update={"decoy": None}) if value.decoy in missing else value
                for name, value in neurons.items()
                if name not in missing
            }
            continue
        rows = concept_rows(engine, one.concept, known, own, measured, effort)
        certificate = ct.Certificate(engine.folder.name, tuple(rows))
        for line in certificate.lines():
            progress(line)
        failed = [name for name in wanted if any(not_held(row) and row.behaviour == name for row in rows)]
        if not failed and not any(not_held(row) for row in rows):
            return Assembled(known, tuple(rows), tuple(left_out), dropped, tuple(pruned))
        if not failed or len(wanted) - len(failed) < least:
            left_out += [row for row in rows if not_held(row)]
            return Assembled(None, (), tuple(left_out), dropped, tuple(pruned))
        left_out += [row for row in rows if row.behaviour in failed]
        wanted = [name for name in wanted if name not in failed]


def not_held(row: Row) -> bool:
    """Whether the row misses its bound."""
    return row.passed is False


def _designated(one: Designation, all_of_them: Sequence[Designation]) -> dict[str, files.Neuron]:
    """The neurons of one concept with their roles, groups and decoys, before anything is measured."""
    others = {
        files.neuron_name(part.layer, unit)
        for other in all_of_them
        if other is not one
        for part in other.parts
        for unit in part.used
    }
    neurons: dict[str, files.Neuron] = {}
    for number, part in enumerate(one.parts):
        for unit, decoy in zip(part.used, part.decoys, strict=True):
            name, partner = (files.neuron_name(part.layer, place) for place in (unit, decoy))
            role = ROLES.get(one.motif, "shared" if name in others else "used")
            group = number if len(one.parts) > 1 else None
            neurons[name] = files.Neuron(role=role, decoy=partner, group=group)
            neurons[partner] = files.Neuron(role="decoy")
    return neurons


def _with_weights(
    engine: ex.Engine,
    one: Designation,
    neurons: Mapping[str, files.Neuron],
    pairs: Mapping[str, Sequence[Pair]],
    effort: Effort,
) -> files.ConceptTruth:
    """The concept's truth with its carriers' weights as measured; backups have none."""
    places = {
        behaviour: files.Behaviour(
            pairs=f"../{PAIRS_FOLDER}/{one.concept}.{behaviour}.jsonl", observe_at="last", intervene_at="last"
        )
        for behaviour in pairs
    }
    known = files.ConceptTruth(
        classes=grammar.CONCEPTS[one.concept].classes,
        motif=one.motif,
        behaviours=places,
        neurons=dict(neurons),
    )
    if known.is_null or one.motif == "backup":
        return known
    shares = _shares(engine, known, pairs, effort)
    weighted = {}
    for name, neuron in neurons.items():
        if name in shares[next(iter(shares))]:
            weights = {behaviour: round(found[name], 4) for behaviour, found in shares.items()}
            weight = round(sum(weights.values()) / len(weights), 4)
            neuron = neuron.model_copy(update={"weight": weight, "weights": weights})
        weighted[name] = neuron
    return known.model_copy(update={"neurons": weighted})


def _shares(
    engine: ex.Engine, known: files.ConceptTruth, pairs: Mapping[str, Sequence[Pair]], effort: Effort
) -> dict[str, dict[str, float]]:
    means = ex.concept_means(engine, next(iter(pairs.values()))[0].concept, list(pairs), effort.probe_pairs)
    return {
        behaviour: shares_of(engine, some[: effort.shapley_pairs], known, means)
        for behaviour, some in pairs.items()
    }


def _below_floor(
    engine: ex.Engine, known: files.ConceptTruth, pairs: Mapping[str, Sequence[Pair]], effort: Effort
) -> list[str]:
    """Free riders: carriers whose Shapley share, mean over the behaviours, is too small.

    A carrier that lacks its share in one behaviour alone is none: there the behaviour is left out.
    """
    if known.is_null:
        return []
    if known.motif == "backup":
        shares = _shares(engine, known, pairs, effort).values()
        weights = {name: sum(found[name] for found in shares) / len(shares) for name in known.carriers()}
    else:
        weights = {name: known.neurons[name].weight or 0.0 for name in known.carriers()}
    return [name for name, weight in weights.items() if weight < share_floor(known)]
