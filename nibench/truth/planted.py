"""A two-layer language model in memory with one planted neuron: what methods that need a model are checked on.

The first class of nouns drives the planted neuron, and it alone writes the difference between the two
answers. Everything else is small random weights, driven more by words that are in no prompt than by the nouns.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.task import Prompt
from nibench.truth.grammar import BOS, PAD, UNKNOWN
from nibench.truth.tokenizer import word_tokenizer

if TYPE_CHECKING:
    from nibench.model import LanguageModel

NOUNS = (("dog", "cat", "cow", "hen"), ("dogs", "cats", "cows", "hens"))
OPENINGS = ("the", "my", "our", "old", "big", "red")
ANSWERS = ("runs", "run")
WIDTH, UNITS, LAYERS = 16, 24, 2
PLANTED = (1, 5)  # layer, unit
OTHERS = ("so", "up", "yes", "no", "oh", "well", "here", "out", "too", "now", "off", "on")  # in no prompt
HEARD = 0.5  # how much of a noun's class the other neurons read: words of no class drive them more


@dataclass(frozen=True, eq=False)
class PlantedModel:
    """The model, its prompts, and the column of the planted neuron in ``mlp_post``."""

    model: "LanguageModel"
    prompts: tuple[Prompt, ...]
    planted: int


def planted_model(permutation: np.ndarray | None = None, seed: int = 0) -> PlantedModel:
    """Make the model; ``permutation`` (LAYERS, UNITS) moves unit ``permutation[l, i]`` of layer l to place i."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from nibench.model import LanguageModel

    words = [BOS, PAD, UNKNOWN, *OPENINGS, *NOUNS[0], *NOUNS[1], *ANSWERS, *OTHERS]
    tokenizer = word_tokenizer(words)
    ids = tokenizer.get_vocab()
    config = GPT2Config(
        vocab_size=len(words), n_positions=8, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_inner=UNITS,
        bos_token_id=0, eos_token_id=0, pad_token_id=1, tie_word_embeddings=False,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    network = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(seed)
    layer, unit = PLANTED
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "ln_" not in name:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
        embedding = network.transformer.wte.weight
        for label, sign in ((0, 1.0), (1, -1.0)):
            for word in NOUNS[label]:
                embedding[ids[word], 0] = sign
        for word in OTHERS:
            embedding[ids[word], 2:] *= 20
        blocks: Any = network.transformer.h
        for each in blocks:
            each.mlp.c_fc.weight[0] *= HEARD
        block = blocks[layer]
        block.mlp.c_fc.weight[:, unit] = 0.0
        block.mlp.c_fc.weight[0, unit] = 1.0
        answer = torch.zeros(WIDTH)
        answer[1] = 1.0
        network.lm_head.weight[ids[ANSWERS[0]], 1] = 3.0
        network.lm_head.weight[ids[ANSWERS[1]], 1] = -3.0
        block.mlp.c_proj.weight[unit] = answer
        block.mlp.c_proj.bias[1] = -1.5  # without the neuron the model answers for the second class
        if permutation is not None:
            for each, order in zip(blocks, torch.as_tensor(permutation), strict=True):
                each.mlp.c_fc.weight.copy_(each.mlp.c_fc.weight[:, order])
                each.mlp.c_fc.bias.copy_(each.mlp.c_fc.bias[order])
                each.mlp.c_proj.weight.copy_(each.mlp.c_proj.weight[order])
    prompts = tuple(
        Prompt(
            text=f"{opening} {NOUNS[label][noun]}",
            label=label,
            split="rank",
            behaviour="verb",
            answers=ANSWERS,
            answer=label,
            source=f"{opening} {NOUNS[1 - label][noun]}",
            source_answer=1 - label,
            group=opening,
        )
        for opening in OPENINGS
        for noun in range(len(NOUNS[0]))
        for label in (0, 1)
    )
    place = unit if permutation is None else int(np.flatnonzero(permutation[layer] == unit)[0])
    return PlantedModel(LanguageModel.from_network(network, tokenizer), prompts, layer * UNITS + place)
