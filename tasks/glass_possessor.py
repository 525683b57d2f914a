"""Whose it is, read at *his* and *her*, in models that certifiably have no use for it: no later word depends on it.

A null: many neurons tell the two apart, so *associated* and *responds* have an answer; *carries* and *required* have
none.
"""

from nibench import Task, control, sources

task = Task(
    concept="possessor",
    classes=("Masc", "Fem"),
    source=sources.glassbox("possessor"),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)
