"""Suites: which methods, tasks and models go together, and what they may cost."""

from dataclasses import dataclass, replace
from typing import Literal

from nibench.errors import unknown

Metrics = Literal["truth", "headline", "all"]


@dataclass(frozen=True)
class Budget:
    """What a run may spend; every number here is in the record's notes or on the page.

    Attributes
    ----------
    rank_prompts : prompts of the ``rank`` split given to methods that intervene on the model.
    eval_prompts : prompts of each behaviour that ablations are scored on.
    ablation_ks : the k at which sets are ablated.
    build_prompts : prompts of the ``probe`` split on which the ceiling of ablations is built where none is known.
    null_ks, null_sets, null_prompts : at which k, against how many matched random sets and on how many ``eval``
        prompts the first k are compared. Only where all metrics are asked for.
    n_random : random rankings behind the zero of every normalised score.
    n_controls : control-task label draws.
    n_halves : divisions of the ``rank`` split on which methods are called again (``metrics="all"``: each costs
        what ranking costs).
    metrics : ``truth``: rankings against the known truth only, no probes, no ablations, no control task;
        ``headline``: what the boards show; ``all``: what stands behind them, too.
    exhaustive : where no truth is stored, measure every neuron's single effects if that takes no more
        interventions (neurons times prompts).
    """

    rank_prompts: int = 150
    eval_prompts: int = 60
    ablation_ks: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    build_prompts: int = 60
    null_ks: tuple[int, ...] = (2, 8, 32)
    null_sets: int = 100
    null_prompts: int = 30
    n_random: int = 20
    n_controls: int = 5
    n_halves: int = 5
    metrics: Metrics = "headline"
    exhaustive: int = 0


@dataclass(frozen=True)
class Suite:
    """Tasks x models x methods. Empty ``methods`` means every bundled one."""

    summary: str
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    methods: tuple[str, ...] = ()
    budget: Budget = Budget()


TRAPS = (  # worlds in which most rankers agree on neurons that are wrong
    "confounded_world", "biased_labels_world", "few_sentences_world", "word_identity_world", "two_sided_world",
)  # fmt: skip
NULLS = ("random_labels_world", "parity_world")  # worlds in which no neuron is associated with the label
WORLDS = (
    "graded_noise_world", "several_classes_world", "copies_world", "superposed_world", "non_gaussian_world",
    "rare_class_world", "noisy_labels_world", "distributed_world", "conjunction_world", *TRAPS, *NULLS,
)  # fmt: skip

SWEEPS: dict[str, tuple[float, ...]] = {  # dial of difficulty_world -> its values, from easy to hard
    "snr": (2, 1, 0.6, 0.4, 0.25),
    "tokens": (5400, 1800, 600, 300, 150),
    "rarest": (0.5, 0.2, 0.1, 0.04, 0.016),
    "classes": (2, 3, 4, 6, 8),
    "label_noise": (0, 0.15, 0.3, 0.4, 0.45),
    "label_budget": (1, 0.5, 0.25, 0.12, 0.06),
    "superposition": (0, 8, 16, 32, 64),
    "neurons": (60, 120, 240, 480, 960),
    "spread": (8, 16, 32, 64, 100),
}
SWEEP_DRAWS = 10  # fewer give no interval

GLASS_TASKS = (
    "glass_number", "glass_tense", "glass_gender", "glass_animacy", "glass_polarity", "glass_sentiment",
    "glass_bracket", "glass_sentence_type", "glass_possessor",
)  # fmt: skip
GLASS_BOXES = (
    "glass1", "glass2", "glass3", "glass4", "glass5", "glass6", "glass7", "glass8", "glass9", "glass11",
    "glass13", "glass14", "glass15", "glass16", "glass32", "glass37",
)  # fmt: skip  # those that are certified, by seed
NULL_BOXES = ("rotated1",)  # these hold nulls alone, so they have no twins
MIDDLES = ("glass3-middle", "glass8-middle", "glass13-middle", "glass15-middle")
TRUTH_MODELS = (*GLASS_BOXES, *NULL_BOXES, *MIDDLES, *(f"{name}-natural" for name in GLASS_BOXES))

LABEL_FREE = (
    "random_ranking", "variance", "weight_norm", "kurtosis", "bimodality", "correlation_clustering",
)  # fmt: skip
TELLING = (  # of every family, what a minute allows
    *LABEL_FREE, "top_contexts", "probeless", "mean_difference", "auc", "expert_units", "concept_iou", "lca",
    "linear_l1", "linear_l2", "lda", "gaussian_probe", "neuron_ablation", "activation_patching",
    "attribution_patching", "gradient_activation", "integrated_gradients",
)  # fmt: skip

SUITES: dict[str, Suite] = {
    "default": Suite(
        summary="a model whose answer is known and its natural twin, and three worlds: one of graded noise, one in "
        "which most methods agree and are wrong, one in which no neuron is right",
        tasks=(
            *("glass_tense", "glass_sentiment", "glass_polarity"),
            *("graded_noise_world", "confounded_world", "random_labels_world"),
        ),
        models=("glass8", "glass8-natural"),
        methods=TELLING,
    ),
    "truth": Suite(
        summary="against the known answer only: glass-box models with their twins and middles, worlds, and the "
        "loss of the model as a whole",
        tasks=(*GLASS_TASKS, *WORLDS, "__model__"),
        models=TRUTH_MODELS,
        methods=(
            *TELLING,
            "knowledge_neurons",
            "deeplift",
            "conductance",
            "sparse_thresholding",
            "mutual_information",
        ),
        budget=Budget(rank_prompts=200, metrics="truth", exhaustive=400_000),
    ),
    "worlds": Suite(
        summary="sampled worlds of every role: consensus traps, nulls, copies, superposition, poor labels",
        tasks=WORLDS,
        models=(),
        methods=TELLING,
        budget=Budget(metrics="truth"),
    ),
    "worlds-difficulty": Suite(
        summary="one world made harder along nine axes, until each method breaks",
        tasks=tuple(
            f"difficulty_world@{dial}={value:g},draw={draw}"
            for dial, values in SWEEPS.items()
            for value in values
            for draw in range(SWEEP_DRAWS)
        ),
        models=(),
        methods=TELLING,
        budget=Budget(metrics="truth"),
    ),
    "metrics": Suite(
        summary="what the metrics themselves are worth: all of them, where the answer is known (for `nibench study "
        "metrics`; spread of seeds and controls: --seeds, --control)",
        tasks=(
            *GLASS_TASKS,
            "graded_noise_world",
            "confounded_world",
            "several_classes_world",
            "copies_world",
        ),
        models=("glass2", "glass3", "glass4", "glass5", "glass6", "glass8"),
        methods=(
            *(
                "random_ranking",
                "variance",
                "weight_norm",
                "mean_difference",
                "auc",
                "concept_iou",
                "top_contexts",
            ),
            *("lca", "linear_l2", "lda", "neuron_ablation", "attribution_patching", "gradient_activation"),
        ),
        budget=Budget(
            rank_prompts=100,
            eval_prompts=40,
            null_ks=(),
            n_random=10,
            n_controls=2,
            n_halves=2,
            metrics="all",
        ),
    ),
    "real-text": Suite(
        summary="words of UD English-EWT, for the model you name (needs --model and --data)",
        tasks=("number_ewt", "part_of_speech_ewt", "tense_ewt"),
        models=(),
        methods=TELLING,
    ),
}


def find_suite(name: str) -> Suite:
    """The suite with this name (InputError with the nearest name otherwise)."""
    if name not in SUITES:
        raise unknown("suite", name, SUITES, f"There are {', '.join(SUITES)}.")
    return SUITES[name]


def spends_as(budget: Budget) -> list[str]:
    """The options of ``nibench run`` that give a run this budget."""
    alike = {name: replace(suite.budget, metrics=budget.metrics) for name, suite in SUITES.items()}
    named = next((name for name, spent in alike.items() if spent == budget), "default")
    options = [f"--suite {named}"] if named != "default" else []
    return options + (
        [f"--metrics {budget.metrics}"] if budget.metrics != SUITES[named].budget.metrics else []
    )
