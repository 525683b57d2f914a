"""The words of the first synthetic English, grouped by what they depend on."""

TIMES = (  # (present, past): the only cue of tense before the verb
    ("today", "yesterday"),
    ("now", "then"),
    ("currently", "previously"),
    ("nowadays", "formerly"),
    ("tonight", "earlier"),
    ("presently", "once"),
)
PLACES = ("park", "garden", "market", "forest", "kitchen", "village")
PREPOSITIONS = ("near", "behind", "beside", "above")
ADJECTIVES = ("old", "young", "tall", "small", "quiet", "brave", "clever", "famous")

NOUNS = (  # (singular, plural): subjects that have a number and no gender
    ("dog", "dogs"),
    ("cat", "cats"),
    ("bird", "birds"),
    ("horse", "horses"),
    ("cow", "cows"),
    ("pig", "pigs"),
    ("farmer", "farmers"),
    ("teacher", "teachers"),
    ("doctor", "doctors"),
    ("pilot", "pilots"),
    ("student", "students"),
    ("singer", "singers"),
    ("painter", "painters"),
    ("driver", "drivers"),
    ("lawyer", "lawyers"),
    ("guard", "guards"),
    ("robot", "robots"),
    ("guest", "guests"),
)
GENDERED = (  # (masculine, feminine): subjects that have a gender and are always singular
    ("king", "queen"),
    ("man", "woman"),
    ("boy", "girl"),
    ("uncle", "aunt"),
    ("father", "mother"),
    ("brother", "sister"),
    ("son", "daughter"),
    ("prince", "princess"),
    ("husband", "wife"),
    ("actor", "actress"),
    ("waiter", "waitress"),
    ("lord", "lady"),
)

VERBS = (  # (plural present, singular present, past), without an object
    ("run", "runs", "ran"),
    ("walk", "walks", "walked"),
    ("sleep", "sleeps", "slept"),
    ("sing", "sings", "sang"),
    ("jump", "jumps", "jumped"),
    ("swim", "swims", "swam"),
    ("smile", "smiles", "smiled"),
    ("work", "works", "worked"),
    ("dance", "dances", "danced"),
    ("wait", "waits", "waited"),
)
REFLEXIVE_VERBS = (  # (present, past), always followed by himself or herself
    ("washes", "washed"),
    ("praises", "praised"),
    ("dresses", "dressed"),
    ("blames", "blamed"),
    ("helps", "helped"),
)
POSSESSIVE_VERBS = (  # (present, past), always followed by his or her
    ("loses", "lost"),
    ("finds", "found"),
    ("cleans", "cleaned"),
    ("sells", "sold"),
    ("forgets", "forgot"),
)
BE = (("is", "are"), ("was", "were"))  # [tense][number]
MODALS = ("can", "could")  # [tense]
PRONOUNS = ("he", "she")  # [gender], as are the next two
REFLEXIVES = ("himself", "herself")
POSSESSIVES = ("his", "her")
OBJECTS = ("hat", "coat", "book", "key", "bag")
PREDICATES = ("tired", "happy", "hungry", "ready", "late", "calm")
FUNCTION_WORDS = ("the", "in", "because", "must", ",", ".")
