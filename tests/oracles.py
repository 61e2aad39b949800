"""Truth for the tests, written from the formulas and not from the package.

Everything is done in one of two arithmetics, `LONG` (80-bit floats where the machine has them) or `EXACT`
(50 decimal digits). An optimum found here can only be too high, so a true gap computed with it can only be
too small: an error in this file may hide a defect but cannot accuse a correct bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mpmath
import numpy as np
import scipy.sparse as sp

mpmath.mp.dps = 50


@dataclass(frozen=True)
class Arithmetic:
    """A kind of number: how arrays of it are made, and its functions."""

    array: Callable[[Any], np.ndarray]
    exp: Callable[[np.ndarray], np.ndarray]
    log: Callable[[np.ndarray], np.ndarray]
    log1p: Callable[[np.ndarray], np.ndarray]
    epsilon: float


def _longdoubles(a: Any) -> np.ndarray:
    return np.asarray(a.toarray() if sp.issparse(a) else a).astype(np.longdouble)


def _decimals(a: Any) -> np.ndarray:
    values = np.asarray(a.toarray() if sp.issparse(a) else a)
    return np.asarray(
        np.frompyfunc(lambda v: mpmath.mpf(v if isinstance(v, mpmath.mpf) else float(v)), 1, 1)(values)
    )


def _each(function: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    return np.frompyfunc(function, 1, 1)


LONG = Arithmetic(_longdoubles, np.exp, np.log, np.log1p, float(np.finfo(np.longdouble).eps))
EXACT = Arithmetic(_decimals, _each(mpmath.exp), _each(mpmath.log), _each(mpmath.log1p), float(mpmath.mp.eps))


def log_softmax(Z: np.ndarray, kind: Arithmetic = LONG) -> np.ndarray:
    """Log-probabilities row by row; log1p keeps the digits of those that are near zero."""
    rows, top = np.arange(len(Z)), Z.argmax(axis=1)
    shifted = Z - Z[rows, top][:, None]
    others = kind.exp(shifted)
    others[rows, top] = others[rows, top] * 0
    return shifted - kind.log1p(others.sum(axis=1))[:, None]


def targets(y: Any, n_classes: int, smoothing: float = 0.0) -> np.ndarray:
    """Distributions over the classes: one-hot rows for labels, y itself where it is soft already."""
    y = np.asarray(y)
    hard = np.eye(n_classes)[y.astype(int)] if y.ndim == 1 else y
    return (1 - np.longdouble(smoothing)) * hard.astype(np.longdouble) + np.longdouble(smoothing) / n_classes


def softmax_loss(
    W: Any,
    X: Any,
    y: Any,
    reg: float,
    sample_weight: Any = None,
    label_smoothing: float = 0.0,
    kind: Arithmetic = LONG,
) -> tuple[Any, np.ndarray]:
    """Weighted mean of ``-sum_j y_ij log p_ij``, plus ``reg/2 ||W||^2``, and its gradient."""
    Y = kind.array(targets(y, W.shape[1], label_smoothing))
    W, X, reg = kind.array(W), kind.array(X), kind.array(reg)[()]
    w = kind.array(np.ones(len(X)) if sample_weight is None else sample_weight)
    w = w / w.sum()
    log_p = log_softmax(X @ W, kind)
    # A target of zero takes no part, however small the probability (0 * inf would be NaN).
    loss = -(w[:, None] * np.where(Y == 0, Y, Y * log_p)).sum() + reg / 2 * (W * W).sum()
    return loss, X.T @ (w[:, None] * (kind.exp(log_p) - Y)) + reg * W


def _solve(H: np.ndarray, g: np.ndarray) -> np.ndarray:
    """``H^-1 g`` for positive definite H in any arithmetic: Cholesky after scaling the diagonal to one."""
    scale = np.array([1 / h ** type(h)(0.5) if h > 0 else h * 0 for h in H.diagonal()])
    L = H * scale[:, None] * scale[None, :]
    x = g * scale
    n = len(x)
    for j in range(n):
        # A direction whose curvature is lost in rounding is left out.
        root = (L[j, j] if L[j, j] > 0 else L[j, j] * 0 + 1e60) ** type(L[j, j])(0.5)
        L[j + 1 :, j] = L[j + 1 :, j] / root
        L[j, j] = root
        L[j + 1 :, j + 1 :] = L[j + 1 :, j + 1 :] - L[j + 1 :, j, None] * L[None, j + 1 :, j]
    for j in range(n):
        x[j] = (x[j] - L[j, :j] @ x[:j]) / L[j, j]
    for j in reversed(range(n)):
        x[j] = (x[j] - L[j + 1 :, j] @ x[j + 1 :]) / L[j, j]
    return x * scale


def newton(f: Callable, start: np.ndarray, kind: Arithmetic, max_iter: int = 300) -> np.ndarray:
    """Minimise a convex f, whose value is None outside its domain, by damped Newton steps.

    ``f(x)`` gives the value and ``f(x, True)`` the value, gradient and a positive definite Hessian.
    """
    x = start
    for _ in range(max_iter):
        value, g, H = f(x, True)
        step = _solve(H, -g)
        slope = step @ g
        t = slope * 0 + 1
        while not ((trial := f(x + t * step)) is not None and trial <= value + t * slope / 10):
            t = t / 2
            if -t * slope <= kind.epsilon * abs(value):
                return x
        x = x + t * step
        if -slope <= 4 * kind.epsilon * abs(value):
            return x
    return x


@dataclass(frozen=True)
class Problem:
    """The estimators' problem as a mean: ``sum w_i loss_i / sum w_i + reg R``, ``reg = 1 / (C sum w_i)``.

    R is ``(1 - l1_ratio)/2 ||W||^2 + l1_ratio ||W||_1``; the intercept is free; two classes share one vector
    of weights. y holds class indices 0..n_classes-1.
    """

    X: Any
    y: np.ndarray
    C: float
    n_classes: int
    weights: np.ndarray | None = None
    fit_intercept: bool = True
    l1_ratio: float = 0.0
    kind: Arithmetic = LONG

    @cached_property
    def A(self) -> np.ndarray:
        """Samples (N, D), or (N, D + 1) with the ones of the intercept last."""
        X = self.kind.array(self.X)
        return np.hstack([X, X[:, :1] * 0 + 1]) if self.fit_intercept else X

    @cached_property
    def w(self) -> np.ndarray:
        w = self.kind.array(np.ones(len(self.y)) if self.weights is None else self.weights)
        return w / w.sum()

    @cached_property
    def reg(self) -> Any:
        w = self.kind.array(np.ones(len(self.y)) if self.weights is None else self.weights)
        return 0 * w[0] if np.isinf(self.C) else 1 / (self.kind.array(self.C)[()] * w.sum())

    @property
    def n_columns(self) -> int:
        return 1 if self.n_classes == 2 else self.n_classes

    @cached_property
    def penalised(self) -> np.ndarray:
        """One for every entry of theta (rows of A x columns) that is a weight, zero for the intercept."""
        mask = np.ones((self.A.shape[1], self.n_columns))
        if self.fit_intercept:
            mask[-1] = 0
        return self.kind.array(mask.ravel())

    def theta(self, coef: Any, intercept: Any) -> np.ndarray:
        """The flat point of fitted `coef_` and `intercept_`."""
        rows = [self.kind.array(coef).T]
        if self.fit_intercept:
            rows.append(self.kind.array(intercept)[None, :])
        return np.concatenate(rows).ravel()

    def loss(self, theta: np.ndarray, second: bool = False) -> Any:
        """Mean loss, and on request its gradient and Hessian."""
        Z = self.A @ theta.reshape(-1, self.n_columns)
        full = np.hstack([Z * 0, Z]) if self.n_columns == 1 else Z
        log_p = log_softmax(full, self.kind)
        value = -(self.w * log_p[np.arange(len(self.y)), self.y]).sum()
        if not second:
            return value
        Y = self.kind.array(np.eye(self.n_classes)[self.y])
        P, R = self.kind.exp(log_p), self.kind.exp(log_p) - Y
        if self.n_columns == 1:
            P, R = P[:, 1:], R[:, 1:]
        k, d = self.n_columns, self.A.shape[1]
        H = np.zeros((d, k, d, k), dtype=P.dtype)
        for a in range(k):
            for b in range(a, k):
                # p (1 - p) from the other classes' mass, which does not cancel when p is near one.
                if a == b:
                    rest = self.kind.exp(np.delete(log_p, a + (k == 1), axis=1)).sum(axis=1)
                    curvature = P[:, a] * rest
                else:
                    curvature = -P[:, a] * P[:, b]
                H[:, a, :, b] = H[:, b, :, a] = self.A.T @ ((self.w * curvature)[:, None] * self.A)
        return value, (self.A.T @ (self.w[:, None] * R)).ravel(), H.reshape(d * k, d * k)

    def value(self, theta: np.ndarray) -> Any:
        """F, the mean objective."""
        W = theta * self.penalised
        ridge = (1 - self.kind.array(self.l1_ratio)[()]) / 2 * (W * W).sum()
        return self.loss(theta) + self.reg * (ridge + self.kind.array(self.l1_ratio)[()] * abs(W).sum())

    def _gauge(self) -> np.ndarray:
        """Curvature along shifts of all classes alike, where the loss has none and no step leads."""
        if self.n_columns == 1:
            return self.kind.array(np.zeros((len(self.penalised),) * 2))
        free = np.ones(self.A.shape[1]) if self.reg == 0 else np.eye(self.A.shape[1])[-1] * self.fit_intercept
        scale = self.kind.array(free) * (self.w[:, None] * self.A * self.A).sum(axis=0)
        return np.kron(np.diag(scale), self.kind.array(np.ones((self.n_columns,) * 2)))

    def optimum(self, start: np.ndarray | None = None) -> np.ndarray:
        """The minimiser, as far as this arithmetic goes."""
        start = self.penalised * 0 if start is None else self.kind.array(start)
        if self.l1_ratio > 0 and self.reg > 0:
            return self._barrier_path(start)
        gauge, tiny = self._gauge(), self.kind.epsilon * self.kind.array(np.eye(len(start)))

        def f(theta: np.ndarray, second: bool = False) -> Any:
            if not second:
                return self.value(theta)
            _, g, H = self.loss(theta, True)
            H = H + gauge + np.diag(self.reg * self.penalised)
            return self.value(theta), g + self.reg * self.penalised * theta, H + np.diag(H.diagonal()) * tiny

        return newton(f, start, self.kind)

    def _barrier_path(self, start: np.ndarray) -> np.ndarray:
        """Interior point for ``l1 |w|``: weights are u - v with u, v > 0 kept apart from zero by mu log.

        The value that is left to gain at the end is at most 2 mu per weight.
        """
        l1 = self.kind.array(self.l1_ratio)[()] * self.reg
        l2 = (1 - self.kind.array(self.l1_ratio)[()]) * self.reg
        inside = np.flatnonzero(self.penalised != 0)
        n, k = len(start), len(inside)
        gauge = self._gauge()
        joined = self.kind.array(np.vstack([np.eye(n), -np.eye(n)[inside]]))  # theta = joined^T x
        signed = np.concatenate([inside, n + np.arange(k)])  # the entries of x that stay positive
        typical = (self.w[:, None] * self.A * self.A).sum(axis=0) ** type(l1)(0.5)
        width = 1 / np.repeat(np.where(typical > 0, typical, 1), self.n_columns)
        x = np.concatenate([start, width[inside]])
        x[inside] = np.maximum(start[inside], 0) + width[inside]
        x[n:] = x[inside] - start[inside]

        def f(x: np.ndarray, second: bool = False) -> Any:
            s = x[signed]
            if not (s > 0).all():
                return None
            theta = joined.T @ x
            W = theta * self.penalised
            extra = l2 / 2 * (W * W).sum() + l1 * s.sum() - mu * self.kind.log(s).sum()
            if not second:
                return self.loss(theta) + extra
            value, g, H = self.loss(theta, True)
            H = joined @ (H + gauge + np.diag(l2 * self.penalised)) @ joined.T
            g = joined @ (g + l2 * W)
            g[signed] = g[signed] + l1 - mu / s
            H[signed, signed] = H[signed, signed] + mu / (s * s)
            return value + extra, g, H

        for exponent in range(1, 17):
            mu = self.kind.array(10.0**-exponent)[()]
            x = newton(f, x, self.kind, max_iter=60)
        return joined.T @ x
