"""She or He after a sentence about a girl or a boy, for language models that read simple stories."""

from nibench import Task, control, sources

task = Task(
    concept="gender",
    classes=("female", "male"),
    source=sources.minimal_pairs(
        templates=(
            "{} was sad.", "{} was happy.", "{} went to the park.", "{} wanted to play.", "{} was very tired.",
            "{} saw a big tree.", "{} liked to run.", "{} played with a ball.", "{} looked at the sky.",
            "{} found a red box.", "{} ate a cake.", "{} was scared.", "{} went home.", "{} had an idea.",
            "{} loved to sing.", "{} was very hungry.", "{} sat on the bed.", "{} ran to the house.",
            "{} was not sure.", "{} was excited.", "{} had a toy car.", "{} said hello.", "{} opened the door.",
            "{} had a good day.",
        ),
        words={
            "female": (
                "Lily", "Mia", "Sara", "Amy", "Sue", "Sally", "Lucy", "Ella", "Molly", "Sarah", "Anna", "Emma",
            ),
            "male": (
                "Tim", "Max", "Bob", "Leo", "Jim", "Mark", "Jack", "Billy", "Joe", "Peter", "John", "David",
            ),
        },
        answers={"female": "She", "male": "He"},
    ),
    control=control.random_label_per_word_type(),
    licence="Apache-2.0",
)  # fmt: skip
