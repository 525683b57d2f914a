"""Consensus trap: ten long sentences, each about one class; what they share by accident looks like the concept."""

from nibench import Task, control, sources

task = Task(
    concept="few_sentences",
    classes=("off", "on"),
    source=sources.world(
        n_items=2400,
        sentence_length=(60, 100),
        sentence_topic=0.9,
        sentence_share=0.6,
        factor_share=0.2,
        n_signal=20,
        signal_range=(0.2, 0.55),
        n_correlate=0,
        n_distributed=0,
        n_loud=0,
        n_dead=0,
        n_neurons=200,
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
