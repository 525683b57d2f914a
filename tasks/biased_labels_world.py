"""Consensus trap: half of the labels were written by a cue and not by the concept, and 20 neurons follow the cue."""

from nibench import Task, control, sources

task = Task(
    concept="biased_labels",
    classes=("off", "on"),
    source=sources.world(
        n_items=2400,
        n_signal=20,
        signal_range=(0.5, 1.0),
        n_correlate=20,
        correlate_distance=1.5,
        agreement=0.0,
        label_cue=0.5,
        n_distributed=0,
        n_loud=0,
        n_dead=0,
        n_neurons=200,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
