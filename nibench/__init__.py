"""nibench: which neurons does a language model use for a concept, and which method finds them?

Everything a submission may import is here. Names load on first use, so that ``import nibench`` and
``nibench --help`` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nibench import control, sources
    from nibench.activations import Activations, extract
    from nibench.adam import TrainedProbe, adam_probe
    from nibench.cross_model import (
        Directions,
        Matches,
        across_models,
        best_matches,
        explained,
        shared_directions,
    )
    from nibench.errors import InputError
    from nibench.evaluation import evaluate
    from nibench.evidence import (
        Clusters,
        Contexts,
        Factors,
        Formulas,
        GeneratedInputs,
        HeatMaps,
        Signed,
        name_classes,
    )
    from nibench.gaussian import GaussianSelection, greedy_gaussian
    from nibench.harness import load_task, rank
    from nibench.linear import LinearProbe, cumulative_mass, linear_probe
    from nibench.method import Direction, Method, Needs, Observations, Scalability, Scale, Scope, Selects
    from nibench.model import LanguageModel, load_model
    from nibench.order_statistics import (
        average_precision,
        binned_information,
        excess_iou,
        kolmogorov_smirnov,
        matched_iou,
        roc_auc,
        sort_columns,
    )
    from nibench.ranking import Ranking
    from nibench.report import Report
    from nibench.soft_inputs import SoftInputs
    from nibench.subsets import best_subsets
    from nibench.task import Claim, Task

_HOMES = {
    "nibench.activations": ("Activations", "extract"),
    "nibench.cross_model": (
        *("Directions", "Matches"),
        *("across_models", "best_matches", "explained", "shared_directions"),
    ),
    "nibench.adam": ("TrainedProbe", "adam_probe"),
    "nibench.errors": ("InputError",),
    "nibench.evaluation": ("evaluate",),
    "nibench.evidence": (
        *("Clusters", "Contexts", "Factors", "Formulas", "GeneratedInputs", "HeatMaps", "Signed"),
        "name_classes",
    ),
    "nibench.gaussian": ("GaussianSelection", "greedy_gaussian"),
    "nibench.harness": ("load_task", "rank"),
    "nibench.linear": ("LinearProbe", "cumulative_mass", "linear_probe"),
    "nibench.method": (
        "Direction",
        "Method",
        "Needs",
        "Observations",
        "Scalability",
        "Scale",
        "Scope",
        "Selects",
    ),
    "nibench.model": ("LanguageModel", "load_model"),
    "nibench.order_statistics": (
        "average_precision",
        "binned_information",
        "excess_iou",
        "kolmogorov_smirnov",
        "matched_iou",
        "roc_auc",
        "sort_columns",
    ),
    "nibench.ranking": ("Ranking",),
    "nibench.report": ("Report",),
    "nibench.soft_inputs": ("SoftInputs",),
    "nibench.subsets": ("best_subsets",),
    "nibench.task": ("Claim", "Task"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Activations",
    "Claim",
    "Clusters",
    "Contexts",
    "Direction",
    "Directions",
    "Factors",
    "Formulas",
    "GaussianSelection",
    "GeneratedInputs",
    "HeatMaps",
    "InputError",
    "LanguageModel",
    "LinearProbe",
    "Matches",
    "Method",
    "Needs",
    "Observations",
    "Ranking",
    "Report",
    "Scalability",
    "Scale",
    "Scope",
    "Selects",
    "Signed",
    "SoftInputs",
    "Task",
    "TrainedProbe",
    "across_models",
    "adam_probe",
    "average_precision",
    "best_matches",
    "best_subsets",
    "binned_information",
    "control",
    "cumulative_mass",
    "evaluate",
    "excess_iou",
    "explained",
    "extract",
    "greedy_gaussian",
    "kolmogorov_smirnov",
    "linear_probe",
    "load_model",
    "load_task",
    "matched_iou",
    "name_classes",
    "rank",
    "roc_auc",
    "shared_directions",
    "sort_columns",
    "sources",
]


def __getattr__(name: str) -> Any:
    if name in ("control", "sources"):
        return import_module(f"nibench.{name}")
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'nibench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
