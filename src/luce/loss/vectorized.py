"""The second rung: the softmax loss and its gradient in matrix form, two products and a softmax."""

from __future__ import annotations

import numpy as np

from luce.loss.inputs import Array, Matrix, check_loss_inputs, finite_result


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is named, not warned of
def softmax_loss_vectorized(W: Array, X: Matrix, y: Array, reg: float) -> tuple[float, Array]:
    """Softmax loss and gradient in matrix form: ``dW = X^T (P - Y) / N + reg W``.

    The whole (N, C) score matrix is stored; :func:`luce.softmax_loss` is the form that does not.

    Parameters
    ----------
    W : (D, C) array
        Weights.
    X : (N, D) array or sparse array
        Samples as rows.
    y : (N,) array of integers or (N, C) array
        Labels, ``0 <= y[i] < C``, or one distribution over the classes per row.
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
    >>> loss, dW = softmax_loss_vectorized(np.zeros((2, 3)), np.eye(2), np.array([0, 2]), reg=0.0)
    >>> dW
    array([[-0.33333333,  0.16666667,  0.16666667],
           [ 0.16666667,  0.16666667, -0.33333333]])
    """
    W, X, y = check_loss_inputs(W, X, y, reg)
    num_samples, num_classes = X.shape[0], W.shape[1]
    Y = y if y.ndim == 2 else np.eye(num_classes)[y]
    Z = np.asarray(X @ W, dtype=np.float64)  # (N, C)
    Z -= Z.max(axis=1, keepdims=True)
    log_P = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
    loss = -np.sum(Y * log_P) / num_samples + 0.5 * reg * np.sum(np.square(W, dtype=np.float64))
    dW = X.T @ ((np.exp(log_P) - Y) / num_samples) + reg * W
    return finite_result(loss, np.asarray(dW, dtype=W.dtype), W, X)
