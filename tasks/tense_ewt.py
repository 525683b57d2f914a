"""Tense of finite English verbs (UD English-EWT, feature `Tense`)."""

from nibench import Task, control, sources

task = Task(
    concept="tense",
    classes=("Past", "Pres"),
    source=sources.word_labels("ud/en_ewt", column="Tense", where={"upos": ("VERB",), "VerbForm": ("Fin",)}),
    control=control.random_label_per_word_type(),
    site="residual",
    paper="Silveira et al., A Gold Standard Dependency Corpus for English, LREC 2014",
    licence="CC BY-SA 4.0",
)
