"""One direction over 128 neurons, none of which tells much: their weights fall off geometrically."""

from nibench import Task, control, sources

task = Task(
    concept="distributed",
    classes=("off", "on"),
    source=sources.world(
        n_items=4500,
        n_signal=0,
        n_distributed=128,
        distributed_distance=0.3,
        distributed_weights=tuple(0.98**i for i in range(128)),
        n_correlate=0,
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
