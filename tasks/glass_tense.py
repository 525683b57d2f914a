"""Tense of the clause, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="tense",
    classes=("Pres", "Past"),
    source=sources.glassbox("tense"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
