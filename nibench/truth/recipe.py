"""What a glass-box model is before it is trained: its concepts, sizes, initial weights, designated neurons."""

from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import torch

from nibench.truth import confinement as cf
from nibench.truth import grammar

Family = Literal["gpt2", "llama", "gpt_neox"]

#: (family, non-linearity, blocks, width, FFN neurons a block); the seed goes through them in turn.
SHAPES: tuple[tuple[Family, str, int, int, int], ...] = (
    ("gpt2", "gelu", 4, 64, 192),
    ("gpt2", "relu", 3, 64, 192),
    ("llama", "silu", 4, 48, 160),
    ("gpt_neox", "gelu", 3, 64, 256),
    ("gpt2", "silu", 5, 48, 128),
    ("llama", "silu", 3, 64, 128),
    ("gpt2", "gelu", 3, 48, 256),
    ("gpt_neox", "gelu", 4, 48, 192),
)
#: The concepts of a model with their motifs and numbers of used neurons (of one part); the seed goes through
#: them in turn.
PLANS: tuple[tuple[tuple[str, cf.Motif, int], ...], ...] = (
    (("number", "ensemble", 5), ("polarity", "ensemble", 4), ("field", "ensemble", 8)),
    (("tense", "shared", 5), ("gender", "shared", 5), ("bracket", "ensemble", 4)),
    (("animacy", "conjunctive", 1), ("sentiment", "ensemble", 4), ("sentence_type", "ensemble", 6)),
    (("gender", "lone", 1), ("number", "ensemble", 8), ("sentiment", "ensemble", 4)),
    (("tense", "ensemble", 6), ("polarity", "relay", 3), ("animacy", "ensemble", 3)),
    (("bracket", "ensemble", 4), ("sentence_type", "lone", 1), ("field", "ensemble", 10)),
    (("number", "ensemble", 12), ("animacy", "ensemble", 4), ("bracket", "relay", 3)),
    (("gender", "backup", 3), ("polarity", "ensemble", 5), ("sentence_type", "ensemble", 4)),
    (("tense", "ensemble", 5), ("sentiment", "ensemble", 24), ("polarity", "null_attention", 0)),
    (("number", "shared", 6), ("animacy", "shared", 6), ("gender", "ensemble", 3)),
    (("polarity", "conjunctive", 1), ("tense", "ensemble", 8), ("sentence_type", "ensemble", 3)),
    (("sentiment", "lone", 1), ("field", "ensemble", 8), ("gender", "ensemble", 6)),
    (("bracket", "backup", 3), ("number", "ensemble", 4), ("tense", "ensemble", 4)),
    (("animacy", "ensemble", 5), ("polarity", "ensemble", 5), ("sentiment", "relay", 3)),
    (("gender", "ensemble", 24), ("sentence_type", "ensemble", 5), ("bracket", "null_attention", 0)),
    (("tense", "relay", 3), ("number", "ensemble", 6), ("polarity", "ensemble", 8)),
)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, besides the seed."""

    concepts: tuple[str, ...]
    motifs: tuple[tuple[cf.Motif, int], ...]  # of each concept, with its used neurons or directions
    family: Family = "gpt2"
    activation: str = "gelu"
    n_layers: int = 4
    width: int = 64
    n_units: int = 192
    n_heads: int = 4
    language_steps: int = 250  # next-word loss alone; longer, up to twice, until every margin is `ready`
    ready: float = 3.2  # nats
    ramp_steps: int = 300  # until the confinement has its full weight
    confine_steps: int = 1250  # the whole of the first phase
    decoy_steps: int = 500
    learning_rate: float = 3e-3
    decoy_learning_rate: float = 1e-3
    naturals: int = 12  # sentences a step
    twins: int = 24
    matching_every: int = 2  # steps of the second phase; the decoys' losses weigh that much more
    matching: int = 8  # prompts for each class of each behaviour, in the second phase
    matching_draws: int = 16  # sets of such prompts, from each of two splits, used in turn
    carried: float = 1.0  # share of each margin that the used neurons shall carry; less makes a middle
    weights: tuple[tuple[str, float], ...] = (
        ("interchange", 1.5),
        ("inertness", 1.0),
        ("neutrality", 2.0),
        ("graded", 0.5),
        ("norms", 0.1),
        ("statistics", 0.2),
        ("decoys", 1.0),
    )

    @property
    def steps(self) -> int:
        return self.confine_steps + self.decoy_steps

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Every (concept, behaviour) of the recipe's concepts."""
        return [
            (name, behaviour) for name in self.concepts for behaviour in grammar.CONCEPTS[name].behaviours
        ]


def recipe_for(seed: int) -> Recipe:
    """The recipe of a seed."""
    family, activation, n_layers, width, n_units = SHAPES[(seed + seed // len(PLANS)) % len(SHAPES)]
    plan = PLANS[seed % len(PLANS)]
    return Recipe(
        tuple(concept for concept, _, _ in plan),
        tuple((motif, size) for _, motif, size in plan),
        family=family,
        activation=activation,
        n_layers=n_layers,
        width=width,
        n_units=n_units,
    )


def rotated_recipe() -> Recipe:
    """One concept alone, along four directions of a wide layer: a null, in which no few neurons carry it.

    Not ReLU and not gated: neurons would be rescaled after training, and the directions no longer orthonormal.
    """
    return Recipe(
        ("polarity",),
        (("null_rotated", 4),),
        n_layers=3,
        n_units=512,
        language_steps=150,
        confine_steps=1000,
        decoy_steps=0,
        weights=(*Recipe.weights, ("spread", 0.1)),
    )


def fresh_model(recipe: Recipe, seed: int) -> Any:
    """An untrained model; the same for the same seed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    words = grammar.vocabulary()
    tokens: dict[str, Any] = {
        "vocab_size": len(words),
        "bos_token_id": words.index(grammar.BOS),
        "pad_token_id": words.index(grammar.PAD),
        "eos_token_id": None,
        "tie_word_embeddings": False,
        "use_cache": False,
    }
    sizes: dict[str, Any] = {
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.n_layers,
        "num_attention_heads": recipe.n_heads,
        "intermediate_size": recipe.n_units,
        "max_position_embeddings": 32,
        "hidden_act": recipe.activation,
        "initializer_range": 0.08,
    }
    if recipe.family == "gpt2":
        sizes = {
            "n_embd": recipe.width,
            "n_layer": recipe.n_layers,
            "n_head": recipe.n_heads,
            "n_inner": recipe.n_units,
            "n_positions": 32,
            "activation_function": recipe.activation,
            "initializer_range": 0.08,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
        }
    config = AutoConfig.for_model(recipe.family, **sizes, **tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")


def _rotation(layer: int, n_units: int, size: int, seed: int) -> cf.Rotated:
    """The first `size` axes of a random rotation (F, F)."""
    drawn = torch.randn(n_units, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return cf.Rotated(layer, torch.linalg.qr(drawn)[0].float())


def designate(recipe: Recipe, seed: int) -> list[cf.Designation]:
    """Draw layers, neurons, planned weights and decoys; concepts share a layer only where they must.

    Layers are drawn from the second to the last but one (a relay may begin in the first): behind the last
    block margins stayed below 3 nats.
    """
    rng = Random(f"designate.{seed}")
    layers = list(range(1, recipe.n_layers - 1))
    rng.shuffle(layers)
    free = {layer: rng.sample(range(recipe.n_units), recipe.n_units) for layer in range(recipe.n_layers)}

    def part(layer: int, size: int, given: cf.Part | None = None) -> cf.Part:
        """A part of `size` used neurons, `given` among them; half of its decoys answer to other classes."""
        used, decoys, exchanged = (given.used, given.decoys, given.exchanged) if given else ((), (), ())
        new = size - len(used)
        drawn, free[layer] = free[layer][: 2 * new], free[layer][2 * new :]
        flips = [index % 2 == 1 for index in range(new)]
        rng.shuffle(flips)
        shares = [rng.uniform(0.3, 1.0) for _ in range(size)]
        weights = tuple(0.6 / size + 0.4 * share / sum(shares) for share in shares)
        return cf.Part(
            layer, used + tuple(drawn[:new]), weights, decoys + tuple(drawn[new:]), exchanged + tuple(flips)
        )

    found: list[cf.Designation] = []
    for index, (concept, (motif, size)) in enumerate(zip(recipe.concepts, recipe.motifs, strict=True)):
        layer = layers[index % len(layers)]
        earlier = next((one.parts[0] for one in found if motif == one.motif == "shared"), None)
        rotated = _rotation(layer, recipe.n_units, size, seed) if motif == "null_rotated" else None
        if motif in ("null_attention", "null_rotated"):
            parts = ()
        elif motif in ("relay", "backup", "conjunctive"):
            pair = sorted(rng.sample(range(recipe.n_layers - 1), 2)) if motif == "relay" else (layer, layer)
            parts = tuple(part(one, size) for one in pair)
        elif earlier is not None:  # two of the first concept's neurons serve this one as well
            half = cf.Part(earlier.layer, earlier.used[:2], (), earlier.decoys[:2], earlier.exchanged[:2])
            parts = (part(earlier.layer, size, half),)
        else:
            parts = (part(layer, size),)
        found.append(cf.Designation(concept, motif, parts, rotated))
    return found
