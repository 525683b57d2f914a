"""Semantic field of the subject, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="field",
    classes=("Cooking", "Sport", "Music", "School"),
    source=sources.glassbox("field"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
