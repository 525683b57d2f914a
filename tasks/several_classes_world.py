"""Six classes, 60 neurons that each tell one or two of them from the rest, 20 that go with the wrong thing."""

from nibench import Task, control, sources

task = Task(
    concept="several_classes",
    classes=("a", "b", "c", "d", "e", "f"),
    source=sources.world(
        class_shares=(0.3, 0.2, 0.2, 0.1, 0.1, 0.1),
        classes=("a", "b", "c", "d", "e", "f"),
        classes_per_neuron=2,
        n_items=3600,
        n_signal=60,
        signal_range=(0.2, 1.0),
        n_distributed=0,
        n_correlate=20,
        correlate_distance=0.5,
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
