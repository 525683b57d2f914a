"""Polarity of the clause, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="polarity",
    classes=("Pos", "Neg"),
    source=sources.glassbox("polarity"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
