"""The first rung: the softmax loss and its gradient as explicit loops, to be read as the definition."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import scipy.sparse as sp

from luce.loss.inputs import Array, Matrix, check_loss_inputs, finite_result, require_finite


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is named, not warned of
def softmax_loss_naive(W: Array, X: Matrix, y: Array, reg: float) -> tuple[float, Array]:
    """Softmax loss and gradient with loops over samples and classes.

    ``L(W) = 1/N sum_i [log sum_j exp(z_ij) - z_iy] + reg/2 ||W||^2`` with ``Z = X W``.

    Parameters
    ----------
    W : (D, C) array
        Weights.
    X : (N, D) array
        Samples as rows.
    y : (N,) array of integers
        Labels, ``0 <= y[i] < C``.
    reg : float
        Strength of the penalty.

    Returns
    -------
    loss : float
    dW : (D, C) array
        Gradient, of W's dtype.

    Raises
    ------
    InputError
        For shapes, types or labels that do not fit; the message says which.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dW = softmax_loss_naive(np.zeros((2, 3)), np.eye(2), np.array([0, 2]), reg=0.0)
    >>> round(loss, 6)  # three classes, no knowledge: log 3
    1.098612
    """
    W, X, y = check_loss_inputs(W, X, y, reg, soft=False)
    if sp.issparse(X):
        X = X.toarray()
    dtype = W.dtype
    W, X = W.astype(np.float64), X.astype(np.float64)
    require_finite(W, "W")
    require_finite(X, "X")
    num_samples, num_features = X.shape
    num_classes = W.shape[1]
    loss = 0.0
    dW = np.zeros_like(W)
    if not np.isfinite(X @ W).all():
        finite_result(math.inf, dW, W, X)
    for i in range(num_samples):
        z = [sum(X[i, d] * W[d, j] for d in range(num_features)) for j in range(num_classes)]
        z_max = max(z)  # exp of a difference to the maximum is at most 1: it cannot overflow
        log_sum = math.log(sum(math.exp(z_j - z_max) for z_j in z))
        for j in range(num_classes):
            log_p = z[j] - z_max - log_sum  # never log(p), which is -inf once p underflows to 0
            target = 1.0 if j == y[i] else 0.0
            if target:
                loss -= log_p
            dW[:, j] += (math.exp(log_p) - target) * X[i]
    loss = loss / num_samples + 0.5 * reg * float((W * W).sum())
    dW = dW / num_samples + reg * W
    return finite_result(loss, cast(Array, dW.astype(dtype)), W, X)
