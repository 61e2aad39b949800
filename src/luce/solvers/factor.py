"""The Hessian of a small problem, factored."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl

from luce.loss.inputs import Array
from luce.objective import Objective


class Factor:
    """The Hessian at a point, factored: scaled to a unit diagonal and made positive definite.

    Adding one vector to the weights of all classes changes no probability, so the Hessian is flat there but
    for the penalty; no gradient points that way, and some curvature is put in its place.
    """

    def __init__(self, objective: Objective, theta: Array) -> None:
        size, n_classes = theta.shape
        H = objective.hessian(theta)
        flat = H.diagonal().reshape(n_classes, size).mean(axis=0) / n_classes
        if objective.reg > 0:
            objective.weights(flat)[...] = 0.0
        blocks = H.reshape(n_classes, size, n_classes, size)
        rows = np.arange(size)
        blocks[:, rows, :, rows] += flat[:, None, None]
        unused = H.diagonal() <= np.finfo(float).tiny  # a feature that is zero everywhere, say
        H[unused, unused] = 1.0
        self.scale = np.sqrt(H.diagonal())
        H /= self.scale
        H /= self.scale[:, None]
        self._shape = theta.shape
        self.exact = True  # until something had to be added for the factorisation to exist
        jitter = 0.0
        if not np.isfinite(H).all():
            raise FloatingPointError("the Hessian is not finite")
        while True:
            try:
                self._factor = sl.cho_factor(H, lower=True, check_finite=False)
                return
            except sl.LinAlgError:
                self.exact = False
                jitter = max(100 * jitter, 1e-14)
                H[np.diag_indices(len(H))] += jitter

    def solve(self, gradient: Array) -> Array:
        """Return the inverse Hessian times a gradient, shaped like theta."""
        size, n_classes = self._shape
        x = sl.cho_solve(self._factor, gradient.T.ravel() / self.scale, check_finite=False) / self.scale
        return np.ascontiguousarray(x.reshape(n_classes, size).T)

    def inverse(self) -> Array:
        """Return the inverse Hessian, (C, D', C, D')."""
        size, n_classes = self._shape
        inverse = sl.cho_solve(self._factor, np.diag(1 / self.scale), check_finite=False)
        inverse /= self.scale[:, None]
        return np.asarray(inverse).reshape(n_classes, size, n_classes, size)

    def inverse_diagonal(self) -> Array:
        """Return the diagonal of the inverse Hessian, (C, D')."""
        return np.asarray(np.einsum("kdkd->kd", self.inverse()))
