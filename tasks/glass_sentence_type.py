"""Statement or question, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="sentence_type",
    classes=("Statement", "Question"),
    source=sources.glassbox("sentence_type"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
