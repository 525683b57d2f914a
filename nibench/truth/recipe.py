"""What a glass-box model is before it is trained: its sizes, its initial weights, its designated neurons."""

from dataclasses import dataclass
from random import Random

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from nibench.truth import confinement as cf
from nibench.truth import grammar


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, besides the seed."""

    n_layers: int = 4
    width: int = 64
    n_units: int = 256
    n_heads: int = 4
    sizes: tuple[int, ...] = (5, 5, 4)  # used neurons of number, tense, gender
    language_steps: int = 500  # next-word loss alone; longer, up to twice, until every margin is `ready`
    ready: float = 3.2  # nats
    ramp_steps: int = 600  # until the confinement has its full weight
    confine_steps: int = 2200  # the whole of the first phase
    decoy_steps: int = 1000
    learning_rate: float = 2.5e-3
    decoy_learning_rate: float = 1e-3
    naturals: int = 24  # sentences a step
    twins: int = 32
    matching: int = 12  # prompts for each class of each behaviour, in the second phase
    matching_draws: int = 20  # sets of such prompts, from each of two splits, used in turn
    weights: tuple[tuple[str, float], ...] = (
        ("interchange", 1.5),
        ("inertness", 1.0),
        ("neutrality", 1.0),
        ("graded", 0.5),
        ("norms", 0.1),
        ("statistics", 0.1),
        ("decoys", 1.0),
    )

    @property
    def steps(self) -> int:
        return self.confine_steps + self.decoy_steps


def fresh_model(recipe: Recipe, seed: int) -> GPT2LMHeadModel:
    """An untrained model; the same for the same seed."""
    words = grammar.vocabulary()
    config = GPT2Config(
        vocab_size=len(words),
        n_positions=32,
        n_embd=recipe.width,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        n_inner=recipe.n_units,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=0.08,
        bos_token_id=words.index(grammar.BOS),
        pad_token_id=words.index(grammar.PAD),
        eos_token_id=None,
        tie_word_embeddings=False,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def designate(recipe: Recipe, seed: int) -> list[cf.Designation]:
    """Draw layers, neurons, planned weights and decoys; concepts share a layer only where they must."""
    rng = Random(f"designate.{seed}")
    layers = list(range(1, max(2, recipe.n_layers - 1)))  # behind the last block margins stayed below 3 nats
    rng.shuffle(layers)
    free = {layer: rng.sample(range(recipe.n_units), recipe.n_units) for layer in layers}
    found = []
    for index, (concept, size) in enumerate(zip(grammar.CONCEPTS, recipe.sizes, strict=True)):
        layer = layers[index % len(layers)]
        taken, free[layer] = free[layer][: 2 * size], free[layer][2 * size :]
        shares = [rng.uniform(0.3, 1.0) for _ in range(size)]
        weights = tuple(0.6 / size + 0.4 * share / sum(shares) for share in shares)
        flips = [index % 2 == 1 for index in range(size)]
        rng.shuffle(flips)
        found.append(
            cf.Designation(concept, layer, tuple(taken[:size]), weights, tuple(taken[size:]), tuple(flips))
        )
    return found
