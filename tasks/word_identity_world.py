"""Consensus trap: in `rank` every word type prefers a class, so neurons that know the word seem to know the class."""

from nibench import Task, control, sources

task = Task(
    concept="word_identity",
    classes=("off", "on"),
    source=sources.world(
        n_items=2400,
        n_types=12,
        type_effect=2.0,
        type_preference=(0.95, 0.0),
        n_signal=20,
        signal_range=(0.2, 0.5),
        n_correlate=0,
        n_distributed=0,
        n_loud=0,
        n_dead=0,
        n_neurons=200,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
