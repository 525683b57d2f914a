"""Universal part of speech of every English word (UD English-EWT, column `upos`)."""

from nibench import Task, control, sources

task = Task(
    concept="part_of_speech",
    classes=(),
    source=sources.word_labels("ud/en_ewt", column="upos"),
    control=control.random_label_per_word_type(),
    site="residual",
    paper="Silveira et al., A Gold Standard Dependency Corpus for English, LREC 2014",
    licence="CC BY-SA 4.0",
)
