"""40 neurons that each encode the concept and four others, all equally strongly."""

from nibench import Task, control, sources

task = Task(
    concept="superposed",
    classes=("off", "on"),
    source=sources.world(
        n_items=3000,
        n_signal=0,
        n_shared=40,
        signal_range=(0.2, 1.5),
        superposition=4,
        n_distributed=0,
        n_correlate=20,
        correlate_distance=0.5,
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
