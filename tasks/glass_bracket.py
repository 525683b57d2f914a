"""Which bracket is open, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="bracket",
    classes=("Round", "Square"),
    source=sources.glassbox("bracket"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
