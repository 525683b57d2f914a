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
    from nibench.errors import InputError
    from nibench.evaluation import Report, evaluate
    from nibench.evidence import Clusters, Contexts, Signed
    from nibench.gaussian import GaussianSelection, greedy_gaussian
    from nibench.harness import load_task, rank
    from nibench.linear import LinearProbe, cumulative_mass, linear_probe
    from nibench.method import Direction, Method, Needs, Observations, Scalability, Scale, Scope
    from nibench.model import LanguageModel, load_model
    from nibench.order_statistics import average_precision, matched_iou, sort_columns
    from nibench.ranking import Ranking
    from nibench.subsets import best_subsets
    from nibench.task import Claim, Task

_HOMES = {
    "nibench.activations": ("Activations", "extract"),
    "nibench.adam": ("TrainedProbe", "adam_probe"),
    "nibench.errors": ("InputError",),
    "nibench.evaluation": ("Report", "evaluate"),
    "nibench.evidence": ("Clusters", "Contexts", "Signed"),
    "nibench.gaussian": ("GaussianSelection", "greedy_gaussian"),
    "nibench.harness": ("load_task", "rank"),
    "nibench.linear": ("LinearProbe", "cumulative_mass", "linear_probe"),
    "nibench.method": ("Direction", "Method", "Needs", "Observations", "Scalability", "Scale", "Scope"),
    "nibench.model": ("LanguageModel", "load_model"),
    "nibench.order_statistics": ("average_precision", "matched_iou", "sort_columns"),
    "nibench.ranking": ("Ranking",),
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
    "GaussianSelection",
    "InputError",
    "LanguageModel",
    "LinearProbe",
    "Method",
    "Needs",
    "Observations",
    "Ranking",
    "Report",
    "Scalability",
    "Scale",
    "Scope",
    "Signed",
    "Task",
    "TrainedProbe",
    "adam_probe",
    "average_precision",
    "best_subsets",
    "control",
    "cumulative_mass",
    "evaluate",
    "extract",
    "greedy_gaussian",
    "linear_probe",
    "load_model",
    "load_task",
    "matched_iou",
    "rank",
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
