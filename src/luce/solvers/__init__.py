"""How the objective is minimised. A solver sees an objective, never the data."""

from luce.solvers.driver import Progress, Solution, Solver, State, minimize
from luce.solvers.lbfgs import LBFGS
from luce.solvers.newton import Newton

__all__ = ["LBFGS", "Newton", "Progress", "Solution", "Solver", "State", "minimize"]
