"""nibench: which neurons does a language model use for a concept, and which method finds them?"""

from nibench.evidence import Signed
from nibench.gaussian import GaussianSelection, greedy_gaussian
from nibench.linear import LinearProbe, cumulative_mass, linear_probe
from nibench.method import Direction, Method, Needs, Observations
from nibench.order_statistics import average_precision, matched_iou, sort_columns
from nibench.ranking import Ranking
from nibench.task import Claim, Task

__all__ = [
    "Claim",
    "Direction",
    "GaussianSelection",
    "LinearProbe",
    "Method",
    "Needs",
    "Observations",
    "Ranking",
    "Signed",
    "Task",
    "average_precision",
    "cumulative_mass",
    "greedy_gaussian",
    "linear_probe",
    "matched_iou",
    "sort_columns",
]
