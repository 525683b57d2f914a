"""nibench: which neurons does a language model use for a concept, and which method finds them?"""

from nibench.method import Method, Needs, Observations
from nibench.ranking import Ranking
from nibench.task import Claim, Task

__all__ = ["Claim", "Method", "Needs", "Observations", "Ranking", "Task"]
