"""What the loss functions accept, checked in one place."""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeAlias, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from luce.errors import InputError

Array: TypeAlias = NDArray[Any]
Matrix: TypeAlias = Any  # a dense (N, D) array or a SciPy CSR array: rows are samples

_MEND = "pass a 2-D array of numbers, samples as rows"


def as_matrix(X: Any, name: str = "X") -> Matrix:
    """Return X as it is where the kernels can read it, else as the nearest thing that they can.

    Dense float32/float64 in C or F order and CSR with sorted float data are passed through untouched;
    integers and booleans become float64, float16 becomes float32, other sparse formats become CSR.
    """
    if sp.issparse(X):
        X = X.tocsr()
        dtype = _float_dtype(X.dtype, name)
        return X if X.dtype == dtype else X.astype(dtype)
    try:
        X = np.asarray(X)
    except ValueError:
        raise InputError(f"{name} has rows of different lengths: {_MEND}") from None
    if X.ndim != 2:
        raise InputError(f"{name} has {X.ndim} dimension(s), shape {X.shape}: {_MEND}")
    dtype = _float_dtype(X.dtype, name)
    if not (X.dtype == dtype and X.dtype.isnative and X.flags.aligned):
        X = X.astype(dtype)
    if X.size and not (X.flags.c_contiguous or X.flags.f_contiguous):
        rows_first = X.strides[1] == X.itemsize and X.strides[0] > 0
        X = X if rows_first else np.ascontiguousarray(X)
    return X


def _float_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    if dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers: the softmax loss is real, pass X.real or X.imag")
    if dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {dtype}, not numbers: convert it, for example X.astype(float)")
    if dtype.kind == "f":
        return np.dtype(np.float32 if dtype.itemsize <= 4 else np.float64)
    return np.dtype(np.float64)


def as_targets(y: Any, n_samples: int, n_classes: int, *, soft: bool = True) -> Array:
    """Return labels as int64 (N,) or soft labels as a float (N, C) array, checked.

    Raises
    ------
    InputError
        For another shape, labels that are not integers or outside 0..C-1, soft labels that are negative
        or whose rows do not sum to 1; the message names the row.
    """
    y = np.asarray(y)
    if y.ndim == 2 and soft:
        return _soft_targets(y, n_samples, n_classes)
    if y.ndim != 1:
        kinds = "(N,) integer labels" + (" or (N, C) soft labels" if soft else "")
        raise InputError(f"y has shape {y.shape}: pass {kinds}")
    if len(y) != n_samples:
        raise InputError(f"y has {len(y)} labels but X has {n_samples} rows: they must match")
    if y.dtype.kind not in "iu":
        raise InputError(f"y has dtype {y.dtype}: labels are integers 0..{n_classes - 1}, try y.astype(int)")
    bad = np.flatnonzero((y < 0) | (y >= n_classes))
    if bad.size:
        raise InputError(
            f"y[{bad[0]}] = {y[bad[0]]} is not a class: W has {n_classes} columns, "
            f"so labels are 0..{n_classes - 1}"
        )
    return cast(Array, y.astype(np.int64, copy=False))


def _soft_targets(y: Array, n_samples: int, n_classes: int) -> Array:
    if y.shape != (n_samples, n_classes):
        raise InputError(f"soft labels have shape {y.shape}, expected {(n_samples, n_classes)}")
    if y.dtype.kind not in "fiub":
        raise InputError(f"soft labels have dtype {y.dtype}: pass probabilities as floats")
    y = y.astype(np.float64, copy=False)
    bad = np.flatnonzero(~((y >= 0).all(axis=1) & (np.abs(y.sum(axis=1) - 1) <= 1e-5)))
    if bad.size:
        raise InputError(f"row {bad[0]} of the soft labels is not a distribution: entries >= 0, sum 1")
    return cast(Array, y / y.sum(axis=1, keepdims=True))


def as_weights(sample_weight: object, n_samples: int) -> Array | None:
    """Return sample weights as float64 (N,), checked to be finite, non-negative and not all zero."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight)
    if weight.ndim == 0:
        weight = np.full(n_samples, weight)
    if weight.shape != (n_samples,):
        raise InputError(f"sample_weight has shape {weight.shape}, expected ({n_samples},)")
    if weight.dtype.kind not in "fiub":
        raise InputError(f"sample_weight has dtype {weight.dtype}: pass numbers")
    weight = weight.astype(np.float64, copy=False)
    bad = np.flatnonzero(~((weight >= 0) & np.isfinite(weight)))
    if bad.size:
        raise InputError(f"sample_weight[{bad[0]}] = {weight[bad[0]]}: weights are finite and >= 0")
    if not weight.any():
        raise InputError("sample_weight is zero everywhere: at least one sample must count")
    return weight


def check_loss_inputs(
    W: Any, X: Any, y: Any, reg: float, *, soft: bool = True
) -> tuple[Array, Matrix, Array]:
    """Check the arguments that the three rungs of the ladder share; return (W, X, y) ready to use."""
    X = as_matrix(X)
    W = as_matrix(W, "W")
    if sp.issparse(W):
        raise InputError("W is sparse: pass a dense (D, C) array")
    n_samples, n_features = X.shape
    if n_samples == 0:
        raise InputError("X has no rows: a mean over no samples is not defined")
    if W.shape[0] != n_features:
        raise InputError(f"X has {n_features} columns but W has {W.shape[0]} rows: W is (D, C), X is (N, D)")
    if W.shape[1] == 0:
        raise InputError("W has no columns: there must be at least one class")
    if not (isinstance(reg, Real) and np.isfinite(reg) and reg >= 0):
        raise InputError(f"reg = {reg!r}: the penalty is a finite number >= 0")
    return W, X, as_targets(y, n_samples, W.shape[1], soft=soft)


def finite_result(loss: float, dW: Array, W: Array, X: Matrix) -> tuple[float, Array]:
    """Return loss and gradient, or say what made them infinite or NaN: an entry of W or X, or an overflow."""
    if not (np.isfinite(loss) and np.isfinite(dW).all()):
        require_finite(W, "W")
        require_finite(X, "X")
        raise InputError("the scores X @ W, the gradient or the penalty overflow: scale X or W down")
    return float(loss), dW


def require_finite(X: Matrix, name: str = "X") -> None:
    """Raise InputError at the first NaN or infinity of X, naming its row and column."""
    where = first_not_finite(X)
    if where is not None:
        raise not_finite(name, *where)


def first_not_finite(X: Matrix) -> tuple[int, int, float] | None:
    """Return the row, the column and the value of the first NaN or infinity of X, None if it has none."""
    values = X.data if sp.issparse(X) else X
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(values)) or bool(np.isfinite(values).all()):
            return None
    where = np.argwhere(~np.isfinite(values))[0]
    if not sp.issparse(X):
        return int(where[0]), int(where[1]), float(values[tuple(where)])
    row = int(np.searchsorted(X.indptr, where[0], side="right") - 1)
    return row, int(X.indices[where[0]]), float(values[where[0]])


def not_finite(name: str, row: int, column: int | str, value: float) -> InputError:
    """Return the error for an entry of a matrix that is NaN or infinite."""
    shown = "NaN" if np.isnan(value) else f"{value}"
    return InputError(f"{name}[{row}, {column}] is {shown}: impute or drop the values that are not finite")
