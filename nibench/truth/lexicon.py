"""The words of the synthetic English, grouped by what they depend on."""

TIMES = (  # (present, past): the only cue of tense before the verb
    ("today", "yesterday"),
    ("now", "then"),
    ("currently", "previously"),
    ("nowadays", "formerly"),
    ("tonight", "earlier"),
    ("presently", "once"),
)
PLACES = ("park", "garden", "market", "forest", "harbour", "village")
PREPOSITIONS = ("near", "behind", "beside", "above")
ADJECTIVES = ("old", "young", "tall", "small", "quiet", "quick", "famous", "slow")

NOUNS = (  # (singular, plural): animate subjects that have a number and no gender
    ("dog", "dogs"),
    ("cat", "cats"),
    ("bird", "birds"),
    ("horse", "horses"),
    ("cow", "cows"),
    ("pig", "pigs"),
    ("farmer", "farmers"),
    ("doctor", "doctors"),
    ("pilot", "pilots"),
    ("driver", "drivers"),
    ("lawyer", "lawyers"),
    ("guard", "guards"),
    ("soldier", "soldiers"),
    ("tailor", "tailors"),
    ("robber", "robbers"),
    ("neighbour", "neighbours"),
    ("stranger", "strangers"),
    ("guest", "guests"),
)
THINGS = (  # the same for subjects that are not alive, one for each of `NOUNS`
    ("table", "tables"),
    ("chair", "chairs"),
    ("stone", "stones"),
    ("wheel", "wheels"),
    ("door", "doors"),
    ("window", "windows"),
    ("lamp", "lamps"),
    ("bottle", "bottles"),
    ("basket", "baskets"),
    ("carpet", "carpets"),
    ("mirror", "mirrors"),
    ("ladder", "ladders"),
    ("hammer", "hammers"),
    ("candle", "candles"),
    ("bucket", "buckets"),
    ("fence", "fences"),
    ("statue", "statues"),
    ("engine", "engines"),
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
FIELDS = (  # subjects by semantic field: cooking, sport, music, school
    ("baker", "cook", "brewer", "grocer", "butcher", "miller"),
    ("runner", "swimmer", "skater", "boxer", "rider", "jumper"),
    ("singer", "drummer", "fiddler", "piper", "composer", "dancer"),
    ("teacher", "student", "scholar", "tutor", "librarian", "pupil"),
)
FIELD_PLACES = ("kitchen", "stadium", "theatre", "classroom")  # [field], as are the next two
FIELD_TOOLS = ("spoon", "ball", "violin", "pencil")
FIELD_TOPICS = ("bread", "races", "songs", "books")

VERBS = (  # (plural present, singular present, past), without an object
    ("run", "runs", "ran"),
    ("walk", "walks", "walked"),
    ("sleep", "sleeps", "slept"),
    ("speak", "speaks", "spoke"),
    ("fall", "falls", "fell"),
    ("swim", "swims", "swam"),
    ("turn", "turns", "turned"),
    ("work", "works", "worked"),
    ("move", "moves", "moved"),
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
TRANSITIVE_VERBS = ("see", "want", "carry", "hide", "draw")  # after "would" and an adverb
BE = (("is", "are"), ("was", "were"))  # [tense][number]
MODALS = ("can", "could")  # [tense]
PRONOUNS = ("he", "she")  # [gender], as are the next two
REFLEXIVES = ("himself", "herself")
POSSESSIVES = ("his", "her")
OBJECTS = ("hat", "coat", "map", "key", "bag")
PREDICATES = ("tired", "hungry", "ready", "late", "calm", "busy")

RELATIVES = ("who", "which")  # [animacy], as is the next
INDEFINITES = ("somebody", "something")
ADVERBS = (  # (affirmative, negative): the only cue of polarity
    ("always", "never"),
    ("often", "hardly"),
    ("usually", "rarely"),
    ("surely", "seldom"),
    ("gladly", "scarcely"),
    ("certainly", "barely"),
)
QUANTIFIERS = ("some", "any")  # [polarity], as are the next two
ADDITIVES = ("too", "either")
LIKEWISE = ("so", "neither")
EVALUATIVES = (  # (positive, negative): the only cue of sentiment
    ("kind", "cruel"),
    ("honest", "greedy"),
    ("brave", "cowardly"),
    ("gentle", "brutal"),
    ("polite", "rude"),
    ("friendly", "hostile"),
)
VERDICTS = ("liked", "hated")  # [sentiment], as are the next two
CHEERS = ("hooray", "alas")
FACES = ("smile", "frown")
BRACKETS = (("(", ")"), ("[", "]"))  # [bracket]: opening and closing
OPENERS = (  # (statement, question): the only cue of the sentence type
    ("thus", "why"),
    ("indeed", "how"),
    ("well", "whether"),
    ("therefore", "when"),
    ("besides", "where"),
    ("meanwhile", "whence"),
)
MARKS = (".", "?")  # [sentence type], as is the next
REPORTS = ("says", "asks")
FUNCTION_WORDS = (
    "the", "in", "because", "must", "would", "be", "may", "go", "to", "take", "talk", "about", "and", "others",
    "everyone", ",", ".",
)  # fmt: skip
