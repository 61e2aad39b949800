"""Samples in PyTorch tensors, on a GPU or not: the passes of :mod:`luce.loss.passes` where the data lie.

X is read in tiles of rows, and the (N, C) scores are never stored whole. Products are taken in the dtype
that the objective asks for, and the certificate asks for float64; sums over tiles are float64. Products in
float32 follow ``torch.set_float32_matmul_precision``: TF32 makes steps faster and the proof no worse.

What L-BFGS keeps, arrays of D x C, lies on the device too; the other solvers, which are for small problems
and absolute penalties, keep theirs in the host's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from luce.blocks.samples import Samples, on_host
from luce.errors import InputError
from luce.loss.inputs import Array, as_weights, not_finite
from luce.numbering import number

_TILE_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}  # of a tile's scores: as the cache, or to fill the device
_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


class TensorSamples(Samples):
    """A dense tensor (N, D), or an array that can be had as one by DLPack, without a copy.

    With a device, X is a NumPy array and sent there, and what is fitted to it comes back as NumPy arrays.
    """

    def __init__(self, X: Any, device: str | None = None) -> None:
        self._sent = device is not None
        if device is not None:
            try:
                X = torch.as_tensor(X, device=device)
            except (RuntimeError, AssertionError) as error:
                raise InputError(f"device = {device!r}: {str(error).splitlines()[0]}") from error
        self.X = as_tensor(X)
        self.n_features = self.X.shape[1]

    def labelled(
        self, y: Any, weight: Any, class_weight: Any, n_threads: int | None
    ) -> tuple[Array, OnDevice]:
        """Return the classes, and the data with labels and weights beside X."""
        y = column_or_1d(on_host(y))
        check_classification_targets(y)
        check_consistent_length(self.X, y)
        weight = None if weight is None else as_weights(on_host(weight), len(y))
        classes, labels, weight = number(y, weight, class_weight)
        device = self.X.device
        w = None if weight is None else torch.as_tensor(weight, device=device)
        return classes, OnDevice(self.X, torch.as_tensor(labels, device=device), len(classes), w)

    def like(self, values: Array) -> Array | Tensor:
        """Return the values as X was passed: a tensor on its device, or the NumPy array that they are."""
        return values if self._sent else torch.as_tensor(values, device=self.X.device)


def as_tensor(given: Any) -> Tensor:
    """Return X as a float tensor (N, D), checked to be finite."""
    X: Tensor = given.detach() if isinstance(given, Tensor) else from_dlpack(given)
    if X.layout != torch.strided:
        raise InputError("X is a sparse tensor: pass a dense one, or a SciPy CSR array")
    if X.ndim != 2:
        raise InputError(f"X has {X.ndim} dimension(s), shape {tuple(X.shape)}: pass samples as rows")
    if X.is_complex():
        raise InputError("X holds complex numbers: pass X.real or X.imag")
    if X.dtype not in _DTYPES:
        X = X.to(torch.float32 if X.is_floating_point() else torch.float64)
    if not bool(X.sum(dtype=torch.float64).isfinite()):
        bad = (~X.isfinite()).nonzero()
        if len(bad):
            row, column = (int(at) for at in bad[0])
            raise not_finite("X", row, column, float(X[row, column]))
    return X


class OnDevice:
    """Data in tensors on one device.

    Parameters
    ----------
    X : Tensor (N, D), float32 or float64
    y : Tensor (N,), int64
    n_classes : int
    weight : Tensor (N,) of float64, optional
    """

    def __init__(self, X: Tensor, y: Tensor, n_classes: int, weight: Tensor | None) -> None:
        self.X, self.y, self.n_classes, self.weight = X, y, n_classes, weight
        self.n_samples, self.n_features = X.shape
        self.dtype = _DTYPES[X.dtype]
        self.total_weight, self.least_weight = float(self.n_samples), 1.0
        if weight is not None:
            positive = weight[weight > 0]
            self.total_weight = float(weight.sum())
            self.least_weight = float(positive.min()) if len(positive) else np.inf

    @property
    def place(self) -> Tensor:
        """An empty tensor where solvers may keep their vectors."""
        return self.X[:0, :0]

    def sum(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the pass `name` over X: as NumPy arrays where it is passed one, as tensors otherwise."""
        with torch.no_grad():
            result = getattr(_Passes(self), name)(*(self._here(arg) for arg in args), **options)
        if not any(isinstance(arg, np.ndarray) for arg in args):
            return result
        return tuple(map(_there, result)) if isinstance(result, tuple) else _there(result)

    def take(self, rows: Any) -> OnDevice:
        """Return some of the samples (a view where `rows` is a slice)."""
        rows = rows if isinstance(rows, slice) else torch.as_tensor(np.asarray(rows), device=self.X.device)
        weight = None if self.weight is None else self.weight[rows]
        return OnDevice(self.X[rows], self.y[rows], self.n_classes, weight)

    def _here(self, value: Any) -> Any:
        return torch.as_tensor(value, device=self.X.device) if isinstance(value, np.ndarray) else value


def _there(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.item() if value.ndim == 0 else value.cpu().numpy()


class _Passes:
    """The passes, by their names and with the meaning of their arguments in :mod:`luce.loss.passes`."""

    def __init__(self, data: OnDevice) -> None:
        self.X, self.y, self.weight, self.n_classes = data.X, data.y, data.weight, data.n_classes

    def value_and_gradient(
        self, W: Tensor, b: Tensor | None, *, gradient: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, dW, db = self._sums((), W.shape, W.shape[1:])
        for tile, y, w in self._tiles(W.dtype, W.shape[1]):
            Z = _scores(tile, W, b)
            Z -= Z.amax(1, keepdim=True)  # before the target is taken, so that nothing cancels
            hit = Z.gather(1, y[:, None])
            losses = (_softmax_(Z).log() - hit)[:, 0].double()
            loss += losses.sum() if w is None else losses @ w
            if gradient:
                Z.scatter_add_(1, y[:, None], torch.full_like(hit, -1.0))
                _weigh_(Z, w)
                dW += tile.T @ Z
                db += Z.sum(0, dtype=torch.float64)
        return loss, dW, db

    def hessian_product(
        self, W: Tensor, b: Tensor | None, V: Tensor, c: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        HV, Hc = self._sums(W.shape, W.shape[1:])
        for tile, _, w in self._tiles(W.dtype, 2 * W.shape[1]):
            P, U = self._probabilities(tile, W, b), _scores(tile, V, c)
            U -= torch.linalg.vecdot(P, U)[:, None]
            P *= U
            _weigh_(P, w)
            HV += tile.T @ P
            Hc += P.sum(0, dtype=torch.float64)
        return HV, Hc

    def divergence(
        self, W: Tensor, b: Tensor | None, V: Tensor, c: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        total, dW, db = self._sums((), W.shape, W.shape[1:])
        for tile, _, w in self._tiles(W.dtype, 4 * W.shape[1]):
            P, U = self._probabilities(tile, W, b), _scores(tile, V, c)
            U -= torch.linalg.vecdot(P, U)[:, None]
            U.clamp_(min=-1.0)
            s, p = U.double(), P.double()
            excess = torch.linalg.vecdot(p, s)
            terms = torch.special.xlog1py(1.0 + s, s) - s
            kl = (torch.linalg.vecdot(p, terms) + excess) / (1 + excess) - excess.log1p()
            total += kl.sum() if w is None else kl @ w
            U -= excess[:, None].to(U.dtype)
            P *= U
            _weigh_(P, 1 / (1 + excess) if w is None else w / (1 + excess))
            dW += tile.T @ P
            db += P.sum(0, dtype=torch.float64)
        return total, dW, db

    def gram(self, *, dtype: Any) -> tuple[Tensor, Tensor]:
        width = self.X.shape[1]
        G, total = self._sums((width, width), (width,))
        for tile, _, w in self._tiles(_torch_dtype(dtype), width):
            scaled = tile if w is None else tile * w[:, None].to(tile.dtype)
            G += scaled.T @ tile
            total += scaled.sum(0, dtype=torch.float64)
        return G, total

    def class_sums(self) -> tuple[Tensor, Tensor]:
        sums, totals = self._sums((self.n_classes, self.X.shape[1]), (self.n_classes,))
        for tile, y, w in self._tiles(torch.float64, self.X.shape[1]):
            sums.index_add_(0, y, tile if w is None else tile * w[:, None])
            totals.index_add_(0, y, torch.ones_like(tile[:, 0]) if w is None else w)
        return sums.T, totals

    def moments(self) -> tuple[Tensor, Tensor]:
        first, second = self._sums(self.X.shape[1:], self.X.shape[1:])
        for tile, _, w in self._tiles(torch.float64, self.X.shape[1]):
            w = torch.ones_like(tile[:, 0]) if w is None else w
            first += w @ tile
            second += w @ tile.square()
        return first, second

    def hessian(self, W: Tensor, b: Tensor | None) -> Tensor:
        n_classes, size = W.shape[1], W.shape[0] + (b is not None)
        (H,) = self._sums((n_classes, size, n_classes * size))
        for tile, _, w in self._tiles(W.dtype, n_classes * size):
            P, A = self._probabilities(tile, W, b), _with_ones(tile, b)
            wP = P.clone()
            _weigh_(wP, w)
            for j in range(n_classes):
                h = -wP[:, j, None] * P
                h[:, j] += wP[:, j]
                H[j] += A.T @ (h[:, :, None] * A[:, None, :]).flatten(1)
        return H.view(n_classes, size, n_classes, size)

    def class_curvature(self, W: Tensor, b: Tensor | None) -> Tensor:
        (A,) = self._sums((W.shape[1], W.shape[1]))
        for tile, _, w in self._tiles(W.dtype, 2 * W.shape[1]):
            P = self._probabilities(tile, W, b)
            wP = P.clone()
            _weigh_(wP, w)
            A -= wP.T @ P
            A.diagonal().add_(wP.sum(0, dtype=torch.float64))
        return A

    def class_variances(self, W: Tensor, b: Tensor | None) -> Tensor:
        (total,) = self._sums(W.shape[1:])
        for tile, _, w in self._tiles(W.dtype, 2 * W.shape[1]):
            P = self._probabilities(tile, W, b)
            P -= P.square()
            _weigh_(P, w)
            total += P.sum(0, dtype=torch.float64)
        return total

    def class_grams(
        self, W: Tensor, b: Tensor | None, least: Tensor, pairs: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        size = W.shape[0] + (b is not None)
        (H,) = self._sums((len(least), size, size))
        least = least.to(W.dtype)
        draws = torch.Generator(self.X.device).manual_seed(0)  # the same for the same arguments
        for tile, _, w in self._tiles(W.dtype, W.shape[1] + 2 * len(least)):
            P = self._probabilities(tile, W, b)
            h = P * (1 - P) if pairs is None else P[:, pairs[0]] * P[:, pairs[1]]
            _weigh_(h, w)
            drawn = h > least * torch.rand(h.shape, dtype=h.dtype, device=h.device, generator=draws)
            root = torch.maximum(h, least).sqrt()
            for k in range(len(H)):
                rows = drawn[:, k].nonzero()[:, 0]
                A = _with_ones(tile[rows], b) * root[rows, k, None]
                H[k] += A.T @ A
        return H

    def _tiles(self, dtype: torch.dtype, width: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield X in dtype, labels and weights of some rows; width numbers per row are made of them."""
        if self.X.dtype != dtype:
            width += self.X.shape[1]
        limit = _TILE_BYTES["cpu" if self.X.is_cpu else "cuda"]
        rows = max(16, limit // (width * dtype.itemsize))
        for start in range(0, len(self.X), rows):
            part = slice(start, start + rows)
            yield self.X[part].to(dtype), self.y[part], None if self.weight is None else self.weight[part]

    def _sums(self, *shapes: Any) -> tuple[Tensor, ...]:
        return tuple(torch.zeros(shape, dtype=torch.float64, device=self.X.device) for shape in shapes)

    def _probabilities(self, tile: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        return torch.softmax(_scores(tile, W, b), 1)


def _scores(tile: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    return tile @ W if b is None else torch.addmm(b.to(W.dtype), tile, W)


def _softmax_(Z: Tensor) -> Tensor:
    """Turn scores whose largest is 0 into probabilities in place; return what they were divided by (N, 1)."""
    total = Z.exp_().sum(1, keepdim=True)
    Z /= total
    return total


def _weigh_(rows: Tensor, w: Tensor | None) -> None:
    if w is not None:
        rows *= w[:, None].to(rows.dtype)


def _with_ones(tile: Tensor, b: Tensor | None) -> Tensor:
    return tile if b is None else torch.hstack([tile, torch.ones_like(tile[:, :1])])


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.float32 if np.dtype(dtype) == np.float32 else torch.float64


def decision_function(coef: Any, intercept: Any, X: Any) -> Tensor:
    """Return the scores (N, C), or (N,) for two classes, as :meth:`SoftmaxClassifier.decision_function`."""
    X = as_tensor(X)
    if X.shape[1] != coef.shape[1]:
        raise InputError(f"X has {X.shape[1]} features, but the classifier was fitted on {coef.shape[1]}")
    W, b = (torch.as_tensor(part, dtype=X.dtype, device=X.device) for part in (coef, intercept))
    scores = torch.addmm(b, X, W.T)
    return scores[:, 0] if len(W) == 1 else scores


def predict(coef: Any, intercept: Any, classes: Array, X: Any) -> Any:
    """Return the most probable class of each sample (N,), as a tensor unless classes are not numbers."""
    X = as_tensor(X)
    rows = max(16, _TILE_BYTES["cpu" if X.is_cpu else "cuda"] // (len(classes) * X.dtype.itemsize))
    best = []
    for tile in X.split(rows):
        scores = decision_function(coef, intercept, tile)
        best.append((scores > 0).long() if scores.ndim == 1 else scores.argmax(1))
    which = torch.cat(best)
    if classes.dtype.kind not in "iufb":
        return classes[which.cpu().numpy()]
    return torch.as_tensor(classes, device=X.device)[which]


def log_probabilities(scores: Tensor) -> Tensor:
    """Return the logarithms of the probabilities of the classes (N, C) that have these scores."""
    if scores.ndim == 1:
        scores = torch.stack([torch.zeros_like(scores), scores], 1)
    return torch.log_softmax(scores, 1)
