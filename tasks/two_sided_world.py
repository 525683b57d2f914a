"""Consensus trap: 16 neurons leave their centre in one class, up or down; 16 of a confound are merely shifted."""

from nibench import Task, control, sources

task = Task(
    concept="two_sided",
    classes=("off", "on"),
    source=sources.world(
        n_items=2400,
        n_signal=0,
        n_sign_mixed=16,
        sign_mixed_distance=2.0,
        n_correlate=16,
        correlate_distance=0.8,
        n_distributed=0,
        n_loud=0,
        n_dead=0,
        n_neurons=200,
        shape_shares=(0.5, 0.0, 0.0, 0.5),
        bimodal_distance=2.4,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
