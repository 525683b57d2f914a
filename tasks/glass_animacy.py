"""Whether the subject is alive, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="animacy",
    classes=("Anim", "Inan"),
    source=sources.glassbox("animacy"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
