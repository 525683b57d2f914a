"""Half of the neurons, right and wrong ones alike, are heavy-tailed, sparse or have two humps that mean nothing."""

from nibench import Task, control, sources

task = Task(
    concept="non_gaussian",
    classes=("off", "on"),
    source=sources.world(
        n_items=3000,
        n_signal=40,
        signal_range=(0.2, 1.2),
        n_distributed=0,
        shape_shares=(0.25, 0.25, 0.25, 0.25),
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
