"""The third rung: the softmax loss streamed in tiles of rows, compiled where that is possible."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp

from luce.errors import InputError
from luce.loss import kernels
from luce.loss.inputs import Array, Matrix, as_weights, check_loss_inputs, finite_result


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is named, not warned of
def softmax_loss(
    W: Array,
    X: Matrix,
    y: Array,
    reg: float,
    *,
    sample_weight: Array | None = None,
    label_smoothing: float = 0.0,
    n_threads: int | None = None,
) -> tuple[float, Array]:
    """Softmax loss and gradient in one pass over X; the (N, C) scores are never stored whole.

    Parameters
    ----------
    W : (D, C) array, float32 or float64
        Weights.
    X : (N, D) array or CSR array, float32 or float64
        Samples as rows, dense in C or F order; not copied.
    y : (N,) array of integers or (N, C) array
        Labels, ``0 <= y[i] < C``, or one distribution over the classes per row.
    reg : float
        Strength of the penalty, ``reg/2 ||W||^2``.
    sample_weight : (N,) array, optional
        Weights of the samples; the loss is their weighted mean.
    label_smoothing : float
        The target becomes ``(1 - label_smoothing) onehot(y) + label_smoothing / C``.
    n_threads : int, optional
        By default all the processors that this process may use, or OMP_NUM_THREADS.

    Returns
    -------
    loss : float
    dW : (D, C) array
        Gradient, of W's dtype.

    Raises
    ------
    InputError
        For shapes, types or labels that do not fit, or values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dW = softmax_loss(np.zeros((2, 3)), np.eye(2), np.array([0, 2]), reg=0.0)
    >>> round(loss, 6)
    1.098612
    """
    W, X, y = check_loss_inputs(W, X, y, reg)
    weight = as_weights(sample_weight, X.shape[0])
    if not (isinstance(label_smoothing, Real) and 0.0 <= label_smoothing <= 1.0):
        raise InputError(f"label_smoothing = {label_smoothing!r}: pass a number from 0 to 1")
    if label_smoothing and y.ndim == 2:
        y, label_smoothing = (1 - label_smoothing) * y + label_smoothing / W.shape[1], 0.0
    if n_threads is not None and not (isinstance(n_threads, Integral) and n_threads >= 1):
        raise InputError(f"n_threads = {n_threads!r}: pass a positive number, or None for all processors")
    wide = np.result_type(W, X.dtype)
    products = W.astype(wide) if wide != W.dtype and not sp.issparse(W) else W
    total, dW, _ = kernels.value_and_gradient(products, None, X, y, weight, label_smoothing, n_threads)
    scale = X.shape[0] if weight is None else float(weight.sum())
    loss = float(total) / scale + 0.5 * reg * float(np.sum(np.square(W, dtype=np.float64)))
    dW = np.asarray(dW / scale + reg * W, dtype=W.dtype)
    return finite_result(loss, dW, W, X)
