"""Pictures of a fit and of its predictions; Matplotlib is imported when one is drawn (extra ``plot``).

Each display is made by a ``from_...`` method, which measures; ``plot(ax=None)`` draws and returns the
Matplotlib figure, and ``frame()`` returns what is drawn as a pandas table.
"""

from luce.plot.confusion import ConfusionDisplay
from luce.plot.convergence import ConvergenceDisplay
from luce.plot.path import PathDisplay
from luce.plot.predictions import ReliabilityDisplay, ScoreDisplay
from luce.plot.weights import FeatureDisplay, TemplateDisplay

__all__ = [
    "ConfusionDisplay",
    "ConvergenceDisplay",
    "FeatureDisplay",
    "PathDisplay",
    "ReliabilityDisplay",
    "ScoreDisplay",
    "TemplateDisplay",
]
