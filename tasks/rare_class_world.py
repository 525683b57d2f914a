"""One word in forty is of the class: 40 neurons tell it, with some 30 examples to go by."""

from nibench import Task, control, sources

task = Task(
    concept="rare_class",
    classes=("off", "on"),
    source=sources.world(
        class_shares=(0.975, 0.025),
        n_items=3900,
        n_signal=40,
        signal_range=(0.3, 1.5),
        n_distributed=0,
        n_correlate=0,
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    min_class=5,
    licence="Apache-2.0",
)
