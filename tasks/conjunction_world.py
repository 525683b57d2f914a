"""Eight pairs that tell the concept only together (exclusive or), beside 16 neurons that tell it alone."""

from nibench import Task, control, sources

task = Task(
    concept="conjunction",
    classes=("off", "on"),
    source=sources.world(
        n_items=3000,
        n_signal=16,
        signal_range=(0.3, 0.8),
        n_distributed=0,
        n_conjunctive=16,
        conjunctive_distance=2.5,
        n_correlate=0,
        n_neurons=200,
        shape_shares=(0.5, 0.0, 0.0, 0.5),
        bimodal_distance=2.5,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
