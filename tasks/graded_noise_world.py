"""A sampled concept: 600 neurons, 40 of which carry it from hardly to clearly, 40 together, 20 only seemingly."""

from nibench import Task, control, sources

task = Task(
    concept="graded_noise",
    classes=("off", "on"),
    source=sources.world(
        n_items=3000,
        n_signal=40,
        signal_range=(0.1, 1.2),
        n_distributed=40,
        n_correlate=20,
        n_loud=20,
        n_dead=10,
        n_background=470,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
