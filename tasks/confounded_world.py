"""Consensus trap: 20 neurons of something that goes with the class in `rank` only outshine the 20 that tell it."""

from nibench import Task, control, sources

task = Task(
    concept="confounded",
    classes=("off", "on"),
    source=sources.world(
        n_items=2400,
        n_signal=20,
        signal_range=(0.3, 0.8),
        n_correlate=20,
        correlate_distance=1.5,
        agreement=0.9,
        n_distributed=0,
        n_loud=0,
        n_dead=0,
        n_neurons=200,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
