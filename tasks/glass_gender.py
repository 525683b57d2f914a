"""Gender of the subject's referent, in models whose carrying neurons are known (all certified behaviours pooled)."""

from nibench import Task, control, sources

task = Task(
    concept="gender",
    classes=("Masc", "Fem"),
    source=sources.glassbox("gender"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
