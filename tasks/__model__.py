"""No concept: which neurons matter to the language model at all (loss of next words, each neuron at its mean)."""

from nibench import Task, control, sources

task = Task(
    concept="none",
    classes=(),
    source=sources.natural_text(),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
    concept_free=True,
)
