"""Sentiment about the subject, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="sentiment",
    classes=("Good", "Bad"),
    source=sources.glassbox("sentiment"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
