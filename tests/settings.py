"""A Setting made of a sampled world, for tests of metrics that need no model."""

import numpy as np

from nibench.control import random_label_per_word_type
from nibench.metrics import Setting, SplitData
from nibench.metrics.curves import k_grid
from nibench.neurons import Neurons
from nibench.task import SPLITS, World


def setting_of(world: World, n_controls: int = 3, n_random: int = 20, seed: int = 0) -> Setting:
    rows = {split: np.flatnonzero(world.splits == split) for split in SPLITS}
    splits = {
        split: SplitData(
            world.activations[ids], world.labels[ids], world.word_types[ids], world.sentences[ids]
        )
        for split, ids in rows.items()
    }
    draw = random_label_per_word_type()
    controls = []
    for number in range(n_controls):
        rng = np.random.default_rng([seed, number])
        labels = draw(world.labels, world.word_types, len(world.classes), rng)
        controls.append({split: labels[ids] for split, ids in rows.items()})
    n_neurons = world.activations.shape[1]
    return Setting(
        Neurons.anonymous(n_neurons),
        len(world.classes),
        splits,
        tuple(controls),
        world.truth,
        None,
        ks=k_grid(n_neurons),
        ablation_ks=(1,),
        seed=seed,
        n_random=n_random,
    )
