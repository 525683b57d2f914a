"""Grammatical number of English nouns (UD English-EWT, feature `Number`)."""

from nibench import Task, control, sources

task = Task(
    concept="number",
    classes=("Plur", "Sing"),
    source=sources.word_labels("ud/en_ewt", column="Number", where={"upos": ("NOUN",)}),
    control=control.random_label_per_word_type(),
    site="residual",
    paper="Silveira et al., A Gold Standard Dependency Corpus for English, LREC 2014",
    licence="CC BY-SA 4.0",
)
