"""Build a glass-box model and its natural twin: train, permute, export, certify, prune, measure, write.

What comes out is three folders: the glass-box with its `truth.json` and `certificate.json`, the natural twin,
and the pairs that every model of the grammar shares. What cannot be certified is left out of the truth by
name and number; it was still trained, or the rest would carry it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from nibench.errors import InputError
from nibench.truth import certificate as ct
from nibench.truth import decoys as dc
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar
from nibench.truth.confinement import Designation
from nibench.truth.recipe import Recipe, designate, fresh_model
from nibench.truth.shares import shapley_shares
from nibench.truth.training import CELLS, LEAST, Say, train

PAIRS = 512  # for each behaviour


@dataclass(frozen=True)
class Built:
    """The folders of one build, and the certificate of the glass-box."""

    glassbox: Path
    twin: Path
    pairs: Path
    certificate: ct.Certificate


def silent(_line: str) -> None:
    """A progress callback that says nothing."""


@ex.one_thread()
def build(
    seed: int,
    out: Path,
    progress: Say | None = None,
    *,
    recipe: Recipe | None = None,
    effort: ct.Effort = ct.FULL,
) -> Built:
    """Make a certified glass-box model with its natural twin.

    Trained weights are kept under `out/.glass{seed}` until all is written: a build that was interrupted
    resumes after the last model it finished. The same seed and recipe give the same bytes on the same
    machine.

    Parameters
    ----------
    seed
        Decides the initial weights, the sentences, which neurons are designated and how they are permuted.
    out
        Folder for `glass{seed}`, `glass{seed}-natural` and the pairs.
    progress
        Receives lines of running figures.
    recipe
        Sizes and steps, instead of the defaults.
    effort
        How much the certificate measures.
    """
    say, recipe = progress or silent, recipe or Recipe()
    out = Path(out)
    names = f"glass{seed}", f"glass{seed}-natural", f"pairs-{grammar.NAME}"
    glassbox, twin, pair_folder = (out / name for name in names)
    for folder in (glassbox, twin, pair_folder, out / f".glass{seed}"):
        folder.mkdir(parents=True, exist_ok=True)
    pairs = {cell: grammar.sample_pairs(*cell, PAIRS, seed=0, split="eval") for cell in CELLS}
    for (concept, behaviour), some in pairs.items():
        files.write_pair_file(pair_folder / f"{concept}.{behaviour}.jsonl", some)
    held = frozenset(
        tuple(p.split()) for some in pairs.values() for pair in some for p in (pair.base, pair.source)
    )

    designations = designate(recipe, seed)
    model = trained(out / f".glass{seed}" / "glassbox.safetensors", recipe, seed, designations, held, say)
    natural = trained(out / f".glass{seed}" / "twin.safetensors", recipe, seed, [], held, say)
    designations, change = permute(model, designations, seed)
    export(model, glassbox)
    export(natural, twin)
    notes: dict[str, object] = {"recipe": asdict(recipe), "surgery_max_logit_change": round(change, 9)}
    certificate = write_truth(
        glassbox, twin.name, seed, designations, effort=effort, notes=notes, progress=say
    )

    content = {"schema": 1, "of": glassbox.name, "model_sha256": files.digest(twin / "model.safetensors")}
    files.write_text(twin / "twin.json", json.dumps(content, indent=1) + "\n")
    certified = {cell: pairs[cell] for cell in certificate.behaviours()}
    for folder in (glassbox, twin):
        files.write_effects(folder / "effects.npz", ex.effects(ex.Engine(folder), certified, progress=say))
    for leftover in (out / f".glass{seed}").glob("*"):
        leftover.unlink()
    (out / f".glass{seed}").rmdir()
    return Built(glassbox, twin, pair_folder, certificate)


def trained(
    path: Path, recipe: Recipe, seed: int, designations: Sequence[Designation], held: frozenset, say: Say
) -> GPT2LMHeadModel:
    """Train, or take up what an interrupted build of the same recipe has trained."""
    stamp = json.dumps(asdict(recipe))
    note = path.with_suffix(".json")
    model = fresh_model(recipe, seed)
    if path.is_file() and note.is_file() and note.read_text() == stamp:
        say(f"resuming with {path.name}")
        model.load_state_dict(load_file(path))
        return model.eval()
    model = train(recipe, seed, designations, held=held, say=say)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    files.write_text(note, stamp)
    return model


def permute(
    model: GPT2LMHeadModel, designations: Sequence[Designation], seed: int
) -> tuple[list[Designation], float]:
    """Permute the FFN neurons of every layer in place; the function stays, so that index tells nothing.

    Returns the designations under their new indices, and the largest change of any logit on random input.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(3, model.config.vocab_size, (64, 12), generator=generator)
    new_places = []
    blocks: Any = model.transformer.h
    with torch.no_grad():
        before = model(ids).logits
        for block in blocks:
            order = torch.randperm(block.mlp.c_proj.weight.shape[0], generator=generator)
            block.mlp.c_fc.weight.copy_(block.mlp.c_fc.weight[:, order].clone())
            block.mlp.c_fc.bias.copy_(block.mlp.c_fc.bias[order].clone())
            block.mlp.c_proj.weight.copy_(block.mlp.c_proj.weight[order].clone())
            new_places.append(torch.argsort(order).tolist())
        change = (model(ids).logits - before).abs().max().item()
    moved = [
        replace(
            one,
            used=tuple(new_places[one.layer][unit] for unit in one.used),
            decoys=tuple(new_places[one.layer][unit] for unit in one.decoys),
        )
        for one in designations
    ]
    return moved, change


def tokenizer() -> PreTrainedTokenizerFast:
    """The grammar's word-level tokenizer; it puts BOS first and nothing last."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = grammar.vocabulary()
    ids = {word: index for index, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(ids, unk_token=grammar.UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    inner.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=f"{grammar.BOS} $A", special_tokens=[(grammar.BOS, ids[grammar.BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=grammar.BOS,
        pad_token=grammar.PAD,
        unk_token=grammar.UNKNOWN,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
    )


def export(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write an ordinary Hugging Face folder: float16 weights, opened as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict() | {
        "dtype": "float32",
        "architectures": ["GPT2LMHeadModel"],
        "use_cache": True,
    }
    config.pop("_name_or_path", None)
    files.write_text(folder / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    part = folder / "model.safetensors.part"
    save_file(weights, part, metadata={"format": "pt"})
    part.chmod(0o644)
    part.replace(folder / "model.safetensors")
    tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.config.n_positions}
    files.write_text(path, json.dumps(files.read_json(path) | names, indent=1, sort_keys=True) + "\n")


def write_truth(
    folder: Path,
    twin: str,
    seed: int,
    designations: Sequence[Designation],
    *,
    effort: ct.Effort,
    notes: Mapping[str, object],
    progress: Say = silent,
) -> ct.Certificate:
    """Write `truth.json` and `certificate.json`: what was designated, less what does not hold.

    Decoys that miss are dropped, used neurons under the floor pruned, then behaviours that miss left out.
    """
    (folder / "certificate.json").unlink(missing_ok=True)
    engine = ex.Engine(folder)
    dropped: dict[str, str] = {}
    pruned: list[str] = []
    wanted = {one.concept: list(grammar.CONCEPTS[one.concept].behaviours) for one in designations}
    couples = {
        one.concept: {
            files.neuron_name(one.layer, used): files.neuron_name(one.layer, decoy)
            for used, decoy in zip(one.used, one.decoys, strict=True)
        }
        for one in designations
    }
    decoys = {concept: dict(couple) for concept, couple in couples.items()}
    left_out: list[ct.Row] = []
    while True:
        truth = _truth(folder, twin, seed, engine, wanted, couples, decoys, effort)
        files.write_text(folder / "truth.json", json.dumps(truth, indent=1) + "\n")
        read = files.read_truth(folder)
        missing: dict[str, str] = {}
        for concept, behaviours in wanted.items():
            pairs = {name: files.read_pairs(folder, concept, name)[: effort.pairs] for name in behaviours}
            missing |= dc.missing_decoys(engine, concept, read.concept(concept), pairs, effort.probe_pairs)
        if missing:
            dropped |= missing
            for concept, couple in decoys.items():
                decoys[concept] = {used: decoy for used, decoy in couple.items() if decoy not in missing}
            progress(f"decoys that did not form: {', '.join(missing)}")
            continue
        weak = [
            (concept, name)
            for concept in wanted
            for name, neuron in read.concept(concept).neurons.items()
            if neuron.role == "used" and min(neuron.weights.values()) < 0.4 / len(couples[concept])
        ]
        if weak:
            for concept, name in weak:
                couples[concept].pop(name)
                decoys[concept].pop(name, None)
                pruned.append(name)
            progress(f"used neurons under the floor: {', '.join(name for _, name in weak)}")
            if all(couples.values()):
                continue
            raise InputError(
                f"Seed {seed} confined nothing. Try another: nibench build glassbox --seed {seed + 1}"
            )
        certificate = ct.certify(folder, effort=effort, progress=progress)
        for line in certificate.lines():
            progress(line)
        failed = [cell for cell in certificate.behaviours() if not certificate.passed(*cell)]
        if not failed:
            break
        left_out += [row for row in certificate.rows if (row.concept, row.behaviour) in failed]
        left_out += [row for row in certificate.failures() if row.behaviour == ct.WHOLE]
        for concept, behaviour in failed:
            wanted[concept].remove(behaviour)
        for concept, least in LEAST.items():
            if len(wanted[concept]) < least:
                raise InputError(
                    f"Seed {seed} certified {len(wanted[concept])} behaviours of {concept}, not {least}. "
                    f"Try another: nibench build glassbox --seed {seed + 1}"
                )
    certificate = replace(certificate, left_out=tuple(left_out))
    all_notes = {**notes, "decoys_dropped": dropped, "pruned": pruned}
    content = ct.certificate_json(certificate, files.digest(folder / "model.safetensors"), all_notes)
    files.write_text(folder / "certificate.json", json.dumps(content, indent=1) + "\n")
    return certificate


def _truth(
    folder: Path,
    twin: str,
    seed: int,
    engine: ex.Engine,
    wanted: Mapping[str, Sequence[str]],
    couples: Mapping[str, Mapping[str, str]],
    decoys: Mapping[str, Mapping[str, str]],
    effort: ct.Effort,
) -> dict[str, object]:
    """The contents of `truth.json`, with weights as measured."""
    concepts = {}
    for concept, behaviours in wanted.items():
        used = list(couples[concept])
        weights: dict[str, dict[str, float]] = {name: {} for name in used}
        for behaviour in behaviours:
            path = folder.parent / f"pairs-{grammar.NAME}" / f"{concept}.{behaviour}.jsonl"
            pairs = files.read_pair_file(path, concept, behaviour)
            for name, share in shapley_shares(engine, pairs[: effort.shapley_pairs], used).items():
                weights[name][behaviour] = round(share, 4)
        neurons: dict[str, dict[str, object]] = {}
        for name in used:
            weight = round(sum(weights[name].values()) / len(behaviours), 4)
            neurons[name] = {"role": "used", "weight": weight, "weights": weights[name]}
            if name in decoys[concept]:
                neurons[name]["decoy"] = decoys[concept][name]
        for decoy in decoys[concept].values():
            neurons[decoy] = {"role": "decoy"}
        concepts[concept] = {
            "classes": list(grammar.CONCEPTS[concept].classes),
            "motif": "ensemble",
            "behaviours": {
                behaviour: {
                    "pairs": f"../pairs-{grammar.NAME}/{concept}.{behaviour}.jsonl",
                    "observe_at": "last",
                    "intervene_at": "last",
                }
                for behaviour in behaviours
            },
            "neurons": neurons,
        }
    return {
        "schema": 1,
        "model_sha256": files.digest(folder / "model.safetensors"),
        "seed": seed,
        "split": "dev",
        "twin": twin,
        "concepts": concepts,
    }
