"""Null: labels at random; no neuron tells them."""

from nibench import Task, control, sources

task = Task(
    concept="random_labels",
    classes=("off", "on"),
    source=sources.world(
        n_items=2400,
        n_signal=0,
        n_distributed=0,
        n_correlate=0,
        n_neurons=200,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
