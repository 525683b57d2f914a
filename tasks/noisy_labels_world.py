"""A third of the labels is wrong at random; the order of the 40 neurons that tell the concept is not changed by it."""

from nibench import Task, control, sources

task = Task(
    concept="noisy_labels",
    classes=("off", "on"),
    source=sources.world(
        n_items=3000,
        n_signal=40,
        signal_range=(0.2, 1.2),
        n_distributed=0,
        n_correlate=0,
        label_noise=0.33,
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
