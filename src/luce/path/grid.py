"""The whole path: :func:`softmax_path`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_X_y
from sklearn.utils.multiclass import check_classification_targets

from luce.blocks import Samples, located
from luce.errors import InputError
from luce.estimator import check_parameters, chosen_solver, with_progress
from luce.loss.inputs import Array, Matrix, as_weights, require_finite
from luce.path.follow import Fits, Options, follow
from luce.problem import Problem
from luce.solvers import Solver
from luce.solvers.driver import Callback

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SoftmaxPath:
    """Fits along a grid of C, in the order of the grid.

    Attributes
    ----------
    classes : array (C,)
    Cs : array (n,)
    coefs : array (n, C, D), or (n, 1, D) for two classes
    intercepts : array (n, C), or (n, 1) for two classes
    losses : array (n,)
        The objective as a mean, as ``loss_`` of :class:`luce.SoftmaxClassifier`.
    gaps : array (n,)
        Proven upper bounds on how far the losses are above the least possible.
    n_iters : array (n,)
    statuses : list of str
        As ``status_`` of :class:`luce.SoftmaxClassifier`.
    passes : array (n,)
        Passes over the data, in gradients' worth of work.
    seconds : array (n,)
    """

    classes: Array
    Cs: Array
    coefs: Array
    intercepts: Array
    losses: Array
    gaps: Array
    n_iters: Array
    statuses: list[str]
    passes: Array
    seconds: Array

    @classmethod
    def of(cls, fits: Fits, Cs: Array) -> Self:
        """Return fits in the order of a grid."""
        places = np.searchsorted(fits.Cs, Cs)
        solutions = [fits.solutions[i] for i in places]
        coefs, intercepts = zip(*(fits.problem.coefficients(s.theta) for s in solutions), strict=True)
        return cls(
            classes=fits.problem.classes,
            Cs=Cs,
            coefs=np.array(coefs),
            intercepts=np.array(intercepts),
            losses=np.array([s.value for s in solutions]),
            gaps=np.array([s.gap for s in solutions]),
            n_iters=np.array([s.n_iter for s in solutions]),
            statuses=[s.status for s in solutions],
            passes=fits.passes[places],
            seconds=fits.seconds[places],
        )

    def frame(self) -> pd.DataFrame:
        """Return a pandas table, a row for each C: C, loss, gap, norm of the coefficients, and the cost."""
        import pandas as pd

        return pd.DataFrame(
            {
                "C": self.Cs,
                "loss": self.losses,
                "gap": self.gaps,
                "norm": np.linalg.norm(self.coefs.astype(np.float64), axis=(1, 2)),
                "n_iter": self.n_iters,
                "passes": self.passes,
                "seconds": self.seconds,
                "status": self.statuses,
            }
        )


def softmax_path(
    X: Matrix,
    y: Array,
    Cs: Any = 10,
    *,
    sample_weight: Array | None = None,
    l1_ratio: float = 0.0,
    fit_intercept: bool = True,
    class_weight: Any = None,
    solver: str | Solver = "auto",
    tol: float = 1e-4,
    max_iter: int = 1000,
    random_state: Any = None,
    n_threads: int | None = None,
    callbacks: Iterable[Callback] = (),
    verbose: int = 0,
) -> SoftmaxPath:
    """Fit a softmax classifier for each of many C, each to a proven distance from its optimum.

    From the strongest penalty to the weakest, each fit goes on from what the last one knew.

    Parameters
    ----------
    X : array or sparse array (N, D)
        float32 or float64; other numbers become float64. Whatever :meth:`luce.SoftmaxClassifier.fit` takes
        from disk, from a cluster or as a tensor serves too; the path itself is in NumPy arrays.
    y : array (N,)
        Labels.
    Cs : array (n,) or int
        Values of C, in any order, numpy.inf for no penalty; an integer stands for so many from 1e-4 to 1e4,
        evenly spaced in their logarithms.
    sample_weight : array (N,), optional
    l1_ratio, fit_intercept, class_weight, solver, tol, max_iter, random_state, n_threads, callbacks, verbose
        As in :class:`luce.SoftmaxClassifier`, for each of the fits.

    Returns
    -------
    SoftmaxPath

    Raises
    ------
    InputError
        A ValueError, for parameters or data that cannot be used.

    Warns
    -----
    ConvergenceWarning
        Some of the fits are not proven to be within tol.

    Examples
    --------
    >>> import luce
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> path = luce.softmax_path(X, y, [0.01, 0.1, 1, 10])
    >>> path.coefs.shape
    (4, 3, 4)
    >>> bool((path.gaps <= 1e-4 * path.losses).all())
    True
    """
    check_parameters(
        {"l1_ratio": l1_ratio, "solver": solver, "tol": tol, "max_iter": max_iter, "n_threads": n_threads}
    )
    grid = as_grid(Cs)
    X = located(X)
    if not isinstance(X, Samples):
        X, y = check_X_y(X, y, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_all_finite=False)
        require_finite(X)
        check_classification_targets(y)
        sample_weight = as_weights(sample_weight, X.shape[0])
    problem = Problem.of(
        X,
        y,
        sample_weight,
        class_weight=class_weight,
        fit_intercept=fit_intercept,
        n_threads=n_threads,
    )
    options = Options(
        l1_ratio,
        lambda objective: chosen_solver(solver, objective, random_state),
        tol,
        max_iter,
        with_progress(callbacks, verbose, tol),
    )
    fits = follow(problem, np.unique(grid), options)
    warn_if_loose([fits], tol)
    return SoftmaxPath.of(fits, grid)


def as_grid(Cs: Any) -> Array:
    """Return the values of C that a parameter stands for."""
    mend = "pass positive numbers, or how many of them from 1e-4 to 1e4"
    if np.ndim(Cs) == 0:
        if isinstance(Cs, (int, np.integer)) and not isinstance(Cs, bool) and Cs >= 1:
            return np.logspace(-4, 4, int(Cs))
        raise InputError(f"Cs = {Cs!r}: {mend}")
    try:
        grid = np.asarray(Cs, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"Cs = {Cs!r}: {mend}") from None
    if grid.ndim != 1 or not grid.size:
        raise InputError(f"Cs has shape {grid.shape}: {mend}")
    bad = np.flatnonzero(~(grid > 0))
    if bad.size:
        raise InputError(f"Cs[{bad[0]}] = {grid[bad[0]]}: {mend}")
    return grid


def warn_if_loose(all_fits: list[Fits], tol: float) -> None:
    """Warn of fits that are not proven to be within tolerance."""
    solutions = [solution for fits in all_fits for solution in fits.solutions]
    loose = [s for s in solutions if s.status not in ("converged", "separable")]
    if loose:
        worst = max(loose, key=lambda s: s.gap / max(s.value, 1e-300))
        warnings.warn(
            f"{len(loose)} of {len(solutions)} fits are not proven to be within tol={tol:g}; the worst is "
            f"proven to {worst.gap / max(worst.value, 1e-300):.1e} ({worst.status}): raise max_iter or tol, "
            "or scale the features",
            ConvergenceWarning,
            stacklevel=3,
        )
