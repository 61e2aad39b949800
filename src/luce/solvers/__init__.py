"""How the objective is minimised. A solver sees an objective, never the data."""

from luce.solvers.driver import Progress, Solution, Solver, State, minimize
from luce.solvers.lbfgs import LBFGS
from luce.solvers.newton import Newton
from luce.solvers.newton_cg import NewtonCG
from luce.solvers.proximal import Proximal
from luce.solvers.sgd import SGD

__all__ = [
    "LBFGS",
    "SGD",
    "Newton",
    "NewtonCG",
    "Progress",
    "Proximal",
    "Solution",
    "Solver",
    "State",
    "minimize",
]
