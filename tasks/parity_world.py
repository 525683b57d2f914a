"""Null for *associated*: three neurons of a group tell the class by their parity, and none alone or in a pair."""

from nibench import Task, control, sources

task = Task(
    concept="parity",
    classes=("off", "on"),
    source=sources.world(
        class_shares=(0.5, 0.5),
        n_items=2400,
        n_signal=0,
        n_distributed=0,
        n_conjunctive=18,
        conjunctive_size=3,
        conjunctive_distance=2.5,
        n_correlate=0,
        n_neurons=200,
        shape_shares=(0.5, 0.0, 0.0, 0.5),
        bimodal_distance=2.5,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
