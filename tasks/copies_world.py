"""Ten groups of six copies beside 20 single neurons of the same strength: is every copy found, or one of each?"""

from nibench import Task, control, sources

task = Task(
    concept="copies",
    classes=("off", "on"),
    source=sources.world(
        n_items=3000,
        n_signal=20,
        signal_range=(0.5, 0.8),
        n_distributed=0,
        n_copy_groups=10,
        copy_size=6,
        copy_distance=0.65,
        copy_noise=0.05,
        n_correlate=0,
        n_neurons=400,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
