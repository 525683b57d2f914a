"""The world whose dials are turned: 16 neurons of graded strength among 120, easy for most methods as it stands."""

from nibench import Task, control, sources

task = Task(
    concept="difficulty",
    classes=(),
    source=sources.world(
        class_shares=(0.5, 0.5),
        n_items=1800,
        n_signal=16,
        signal_range=(0.2, 0.7),
        n_concepts=64,
        n_distributed=0,
        n_correlate=0,
        n_loud=0,
        n_dead=0,
        n_neurons=120,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
    min_class=2,
)
