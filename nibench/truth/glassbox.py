"""Build a glass-box model and its natural twin: train, operate, export, measure, write.

What comes out is three folders: the glass-box with its `truth.json` and `certificate.json`, the natural twin,
and the pairs that every model of the grammar shares; at will a half-confined middle too. A model whose concepts
are all nulls has no twin: there is no answer to compare. What cannot be
certified is left out of the truth by name and number; it was still trained, or the rest would carry it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from nibench.disk import digest
from nibench.truth import certificate as ct
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar, rotated, surgery
from nibench.truth.assembly import PAIRS_FOLDER, assemble
from nibench.truth.confinement import Designation
from nibench.truth.pairs import sample_pairs
from nibench.truth.recipe import Recipe, designate, fresh_model, recipe_for
from nibench.truth.rows import FULL, Effort
from nibench.truth.tapped import TappedModel
from nibench.truth.tokenizer import word_tokenizer
from nibench.truth.training import train
from nibench.truth.watch import prompts, quieten_decoys

PAIRS = 512  # for each behaviour


@dataclass(frozen=True)
class Built:
    """The folders of one build, and the certificate of the glass-box."""

    glassbox: Path
    twin: Path | None
    pairs: Path
    certificate: ct.Certificate


@ex.one_thread()
def build(
    seed: int,
    out: Path,
    progress: ex.Progress | None = None,
    *,
    recipe: Recipe | None = None,
    effort: Effort = FULL,
    middle: bool = False,
) -> Built:
    """Make a certified glass-box model with its natural twin, or without where it has nulls alone.

    Trained weights are kept under `out/.glass{seed}` until all is written: a build that was interrupted
    resumes after the last model it finished. The same seed and recipe give the same bytes on the same
    machine.

    Parameters
    ----------
    seed
        Decides the recipe, the initial weights, the sentences, which neurons are designated and how they are
        permuted. Even seeds are of the `dev` split, odd ones of `test`.
    out
        Folder for `glass{seed}` (`rotated{seed}` where a concept lies along directions), its twin and the pairs.
    progress
        Receives lines of running figures.
    recipe
        Concepts, motifs, sizes and steps, instead of the seed's.
    effort
        How much the certificate measures.
    middle
        Make `glass{seed}-middle` as well, in which the used neurons carry half of each margin.
    """
    say, recipe = progress or ex.silent, recipe or recipe_for(seed)
    out = Path(out)
    motifs = {motif for motif, _ in recipe.motifs}
    name = f"rotated{seed}" if rotated.MOTIF in motifs else f"glass{seed}"
    work, pair_folder = out / f".{name}", out / PAIRS_FOLDER
    glassbox, half = out / name, out / f"{name}-middle"
    twin = None if all(motif.startswith("null") for motif in motifs) else out / f"{name}-natural"
    for folder in (glassbox, pair_folder, work):
        folder.mkdir(parents=True, exist_ok=True)
    held = write_pairs(pair_folder)
    pairs = {cell: files.read_pair_file(pair_folder / _pair_file(cell), *cell) for cell in recipe.cells}

    designations = designate(recipe, seed)
    model, moved, notes = planted(work / "glassbox.safetensors", recipe, seed, held, say)
    export(model, glassbox)
    header = {"seed": seed, "split": "test" if seed % 2 else "dev", "twin": twin and twin.name}
    certificate = assemble(glassbox, moved, pairs, header=header, notes=notes, effort=effort, progress=say)
    certified = {cell: pairs[cell] for cell in certificate.behaviours() if cell in pairs}
    if twin:
        export(trained(work / "twin.safetensors", recipe, seed, [], held, say), twin)
        measure_beside(twin, glassbox.name, "natural", certified, effort, say)
    if middle:
        weak = replace(recipe, carried=0.5)
        between = trained(work / "middle.safetensors", weak, seed, designations, held, say)
        operate(between, designations, seed)
        export(between, half)
        measure_beside(half, glassbox.name, "middle", certified, effort, say)
    for leftover in work.glob("*"):
        leftover.unlink()
    work.rmdir()
    return Built(glassbox, twin, pair_folder, certificate)


def planted(
    path: Path, recipe: Recipe, seed: int, held: frozenset, say: ex.Progress
) -> tuple[Any, list[Designation], dict[str, Any]]:
    """A trained and operated model, its designated neurons under their last indices, and notes on the making.

    `path` is where the trained weights are kept until all is written (see `trained`).
    """
    designations = designate(recipe, seed)
    model = trained(path, recipe, seed, designations, held, say)
    tapped = TappedModel(model)
    quieted = quieten_decoys(tapped, prompts(recipe, 24, seed), designations)
    tapped.close()
    moved, change = operate(model, designations, seed)
    notes = {
        "recipe": asdict(recipe),
        "decoys_quieted": quieted,
        "surgery_max_logit_change": round(change, 9),
    }
    return model, moved, notes


def _pair_file(cell: tuple[str, str]) -> str:
    return f"{cell[0]}.{cell[1]}.jsonl"


def write_pairs(folder: Path) -> frozenset[tuple[str, ...]]:
    """Write the `eval` pairs of every behaviour of the grammar; returns their prompts, which training leaves out."""
    held: set[tuple[str, ...]] = set()
    for concept, known in grammar.CONCEPTS.items():
        for behaviour in known.behaviours:
            some = sample_pairs(concept, behaviour, PAIRS, seed=0, split="eval")
            files.write_pair_file(folder / _pair_file((concept, behaviour)), some)
            held |= {tuple(prompt.split()) for pair in some for prompt in (pair.base, pair.source)}
    for concept in grammar.UNUSED:  # their prompts begin with held ones
        cell = (concept, grammar.NONE)
        files.write_pair_file(folder / _pair_file(cell), sample_pairs(*cell, PAIRS, seed=0, split="eval"))
    return frozenset(held)


def measure_beside(
    folder: Path, of: str, kind: str, pairs: ex.Pairs, effort: Effort, progress: ex.Progress = ex.silent
) -> None:
    """Write `twin.json` and `effects.npz` of a natural twin or a middle."""
    content = {
        "schema": 1,
        "of": of,
        "kind": kind,
        "model_sha256": digest(folder / "model.safetensors"),
    }
    files.write_text(folder / "twin.json", json.dumps(content, indent=1) + "\n")
    measured = ex.effects(
        ex.Engine(folder), pairs, n=effort.single_pairs, n_probe=effort.probe_pairs, progress=progress
    )
    files.write_effects(folder / "effects.npz", measured)


def trained(
    path: Path,
    recipe: Recipe,
    seed: int,
    designations: Sequence[Designation],
    held: frozenset,
    say: ex.Progress,
) -> Any:
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


@torch.no_grad()
def operate(model: Any, designations: Sequence[Designation], seed: int) -> tuple[list[Designation], float]:
    """Permute the FFN neurons of every layer in place, and rescale them where the non-linearity allows it.

    The function stays, so that index and scale tell nothing; a decoy takes its partner's factor. Returns the
    designations under their new indices, and the largest change of any logit on random input.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    ids = torch.randint(3, model.config.vocab_size, (64, 12), generator=generator)
    before = model(ids).logits
    places: list[list[int]] = []
    orders: list[torch.Tensor] = []
    for layer in range(model.config.num_hidden_layers):
        weights = surgery.ffn(model, layer)
        factors = torch.exp(0.3 * torch.randn(weights.n_units, generator=generator))
        for part in (part for one in designations for part in one.parts if part.layer == layer):
            factors[list(part.decoys)] = factors[list(part.used)]
        if weights.gated or weights.activation == "relu":
            surgery.rescale(model, layer, factors)
        order = torch.randperm(weights.n_units, generator=generator)
        surgery.permute(model, layer, order)
        places.append(torch.argsort(order).tolist())
        orders.append(order)
    change = (model(ids).logits - before).abs().max().item()
    moved = [
        replace(
            one,
            parts=tuple(
                replace(
                    part,
                    used=tuple(places[part.layer][unit] for unit in part.used),
                    decoys=tuple(places[part.layer][unit] for unit in part.decoys),
                )
                for part in one.parts
            ),
            rotated=one.rotated
            and replace(one.rotated, directions=one.rotated.directions[orders[one.rotated.layer]]),
        )
        for one in designations
    ]
    return moved, change


def export(model: Any, folder: Path) -> None:
    """Write an ordinary Hugging Face folder: float16 weights, opened as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config.to_dict() | {
        "dtype": "float32",
        "architectures": [type(model).__name__],
        "use_cache": True,
    }
    config.pop("_name_or_path", None)
    files.write_text(folder / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
    weights = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    part = folder / "model.safetensors.part"
    save_file(weights, part, metadata={"format": "pt"})
    part.chmod(0o644)
    part.replace(folder / "model.safetensors")
    word_tokenizer(grammar.vocabulary()).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.max_position_embeddings,
    }
    files.write_text(path, json.dumps(files.read_json(path) | names, indent=1, sort_keys=True) + "\n")
