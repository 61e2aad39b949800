"""Cheap inverses near that of the Hessian, from which L-BFGS starts."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg as sl

from luce._native import core
from luce.arrays import astype, beside, compiled, empty_like, namespace, on_host, parts
from luce.loss.inputs import Array
from luce.loss.threads import blas_limited, in_threads, shares, thread_count
from luce.objective import Objective
from luce.solvers.certificate import MANY_CLASSES
from luce.solvers.conjugate import Inverse

_MOST_PRODUCTS = 1 << 27  # with it, for each step, where the features are taken as independent
_MOST_ENTRIES = 1 << 26  # of the blocks of all classes together, in single precision
_ROWS_PER_FEATURE = 6  # drawn for each class's block
_CALL = 1e7  # multiplications take as long as all else that is done for a pair of classes in a tile
_MANY_COLUMNS = 128  # from which BLAS is faster than a loop over rows
_LANES = 16  # in the widest vector
_SHARE = 1e-3  # of each block comes from all samples alike: what the few drawn ones miss must not look free


class Product:
    """The inverse of A (x) S + reg I: classes by classes times features by features.

    The Hessian is the mean over samples of (diag(p) - p p^T) (x) x x^T; the product of the two means, A and
    the covariance S of the features, is near it, and its inverse takes two small eigendecompositions: that of
    S serves all classes, all strengths of the penalty and every A. With an intercept the features are
    centred, which makes the intercept a block of its own. Where D is large against the work of a pass, only
    the diagonal of S is used; where C is, only that of A.
    """

    def __init__(self, objective: Objective) -> None:
        D, C = objective.data.n_features, objective.data.n_classes
        N = objective.data.n_samples
        self.Q: Array | None = None
        if D <= 4096 and D * D <= 30 * N * C:
            every = max(1, N // (20 * D + 1000))
            sample = objective.take(slice(None, None, every)) if every > 1 else objective
            if D <= 256:
                sample = sample.in_dtype(np.float64)
            S, self.mean = sample.gram()
            if objective.fit_intercept:
                S = S - self.mean[:, None] * self.mean
            with blas_limited(None):
                self.e, self.Q = _eigh(astype(S, sample.dtype))  # whose products have no more digits
        else:
            self.mean, second = objective.moments()
            self.e = second - self.mean * self.mean if objective.fit_intercept else second
        self.e = namespace(self.e).clip(self.e, 0.0, None)
        self._centre = self.mean if self.Q is None else self.Q.T @ self.mean

    @classmethod
    def of(cls, objective: Objective) -> Product:
        """Return the features' half, made once for all objectives on the same data."""
        made: Product = objective.once("curvature", lambda: cls(objective))
        return made

    def classes(self, objective: Objective, theta: Array) -> Array:
        """Return the classes' half at a point: A, or its diagonal where products with A would cost most."""
        D, C = objective.shape
        every = max(1, objective.data.n_samples // (2000 + 50 * C))  # a sample will do
        sample = objective.take(slice(None, None, every)) if every > 1 else objective
        whole = C < MANY_CLASSES and (self.Q is not None or D * C * C <= _MOST_PRODUCTS)
        return sample.class_curvature(theta) if whole else sample.class_variances(theta)

    def inverse(self, objective: Objective, A: Array) -> Inverse:
        """Return the inverse for a mean class curvature A (C, C), or its diagonal (C,)."""
        D = objective.data.n_features
        reg, least = self._floors(objective, A)
        safe = self.Q is None and max(float(self.e.max()) * float(A.max()), 1 / reg) < 1e25
        dtype = objective.dtype if safe else np.float64  # a few digits will do, if none is out of range
        classes = (Mixed if A.ndim == 2 else Separate)(A, dtype)
        e, centre = astype(self.e, dtype), astype(self._centre, dtype)
        Q = None if self.Q is None else astype(self.Q, dtype)

        def apply(gradient: Array) -> Array:
            xp = namespace(gradient)
            last = astype(gradient[D:], dtype)  # (1, C), or (0, C) without an intercept
            W = empty_like(gradient, dtype)
            G = gradient[:D]
            if Q is not None:
                G = Q.T @ astype(G, dtype)
            pulled = classes.solve_centred(e, reg, G, centre, last, W[:D])
            if Q is not None:
                W[:D] = Q @ W[:D]
            if len(last):
                W[D:] = classes.solve(xp.ones_like(e[:1]), least, last) - pulled
            inverse: Array = W
            return inverse

        return apply

    def sample_blocks(self, objective: Objective, A: Array, X: Array) -> tuple[Array, Array]:
        """Return R (C, C) and s (N, C): for a sample [x, 1], its block of the inverse is R diag(s_i) R^T."""
        classes, (reg, _) = Mixed(A), self._floors(objective, A)
        offset = X - self.mean if objective.fit_intercept else X
        if self.Q is not None:
            offset = offset @ self.Q
        s = np.square(offset) @ (1 / classes.width(self.e, reg))
        return classes.R, s + 1 / classes.a if objective.fit_intercept else s

    def _floors(self, objective: Objective, A: Array) -> tuple[float, float]:
        """Return what is added to the curvature of the features and of the intercept, lest it be zero."""
        least = max(1e-10 * float(A.max()), 1e-150)
        return max(objective.reg, least * float(self.e.max()), 1e-300), least

    def gram(self, intercept: bool) -> Array:
        """Return the mean of x x^T, or of [x, 1] [x, 1]^T with x centred, as NumPy's."""
        e = on_host(self.e)
        S = np.diag(e) if self.Q is None else (on_host(self.Q) * e) @ on_host(self.Q).T
        return sl.block_diag(S, 1.0) if intercept else S


def _eigh(S: Array) -> tuple[Array, Array]:
    """Return the eigenvalues and eigenvectors of a symmetric matrix, which is used up."""
    if isinstance(S, np.ndarray):  # SciPy keeps single precision single
        found: tuple[Array, Array] = sl.eigh(S, overwrite_a=True, check_finite=False, driver="evd")
    else:
        found = namespace(S).linalg.eigh(S)
    return found


class _Classes(ABC):
    """The inverses of e A + reg I for many e, A being the classes' curvature; what is solved has a dtype."""

    def __init__(self, dtype: Any, work: int) -> None:
        self.dtype = np.dtype(dtype)
        self._work = work  # for each number that is solved for, in multiplications

    @abstractmethod
    def solve(self, e: Array, reg: float, G: Array) -> Array:
        """Return the solution for each e and row of G."""

    def solve_centred(self, e: Array, reg: float, G: Array, centre: Array, last: Array, out: Array) -> Array:
        """Write the solution for each e and row of G - centre last to `out`, and return centre^T out.

        `last` is (1, C), or (0, C) for nothing to subtract.
        """

        def solved(part: slice) -> Array:
            g = astype(G[part], self.dtype)
            if len(last):
                g = g - centre[part, None] @ last
            out[part] = self.solve(e[part], reg, g)
            return centre[part] @ out[part]

        threads = thread_count(None, math.prod(out.shape) * self._work) if isinstance(out, np.ndarray) else 1
        start = namespace(out).zeros_like(out[0])
        return sum(in_threads(solved, parts(out, together=4), threads), start=start)


class Mixed(_Classes):
    """Of a whole A, by its eigenvectors R."""

    def __init__(self, A: Array, dtype: Any = np.float64) -> None:
        a, R = namespace(A).linalg.eigh(A)
        most = float(a[-1])
        # the flat direction, one vector added to all classes, is none that a gradient has
        a[a <= 1e-8 * most] = most if most > 0 else 1.0
        self.a, self.R = astype(a, dtype), astype(R, dtype)
        super().__init__(dtype, 1 + len(a) // 16)
        if isinstance(R, np.ndarray):
            room = ((0, 0), (0, -len(a) % _LANES))
            self._padded = [np.pad(np.ascontiguousarray(matrix), room) for matrix in (self.R, self.R.T)]

    def width(self, e: Array, reg: float) -> Array:
        """Return the eigenvalues for each e, by rows."""
        width: Array = e[:, None] @ self.a[None]  # by BLAS: NumPy is slow where rows are short
        width += reg
        return width

    def solve(self, e: Array, reg: float, G: Array) -> Array:
        """Return the solution for each e and row of G."""
        solution: Array = G @ self.R
        solution /= self.width(e, reg)
        return solution @ self.R.T

    def solve_centred(self, e: Array, reg: float, G: Array, centre: Array, last: Array, out: Array) -> Array:
        """See :class:`_Classes`: compiled where classes are few, as BLAS is slow on short rows."""
        n_classes = len(self.a)
        if not compiled(G, out) or n_classes >= _MANY_COLUMNS:
            return super().solve_centred(e, reg, G, centre, last, out)
        subtracted = last[0] if len(last) else np.zeros(n_classes, self.dtype)
        pulled = np.zeros((thread_count(None, out.size * self._work), n_classes))
        core.mix(G, e, centre, subtracted, *self._padded, self.a, reg, out, pulled)
        total: Array = pulled.sum(axis=0)
        return total


class Separate(_Classes):
    """Of an A of which the diagonal alone is known.

    A is taken as ``diag(v) - v v^T / sum(v)`` with that diagonal, as it is where all samples have the same
    probabilities; the inverses are then a vector's work (Sherman & Morrison, 1950).
    """

    def __init__(self, diagonal: Array, dtype: Any = np.float64) -> None:
        super().__init__(dtype, 1)
        xp = namespace(diagonal)
        self._v = diagonal = xp.clip(diagonal, max(1e-8 * float(diagonal.max()), 1e-300), None)
        for _ in range(50):
            self._v = diagonal / xp.clip(1 - self._v / xp.sum(self._v), 0.5, None)
        self._v = astype(self._v, dtype)
        self._share = self._v / xp.sum(self._v)

    def solve(self, e: Array, reg: float, G: Array) -> Array:
        """Return the solution for each e and row of G."""
        inverse = 1 / (e[:, None] * self._v + reg)
        X: Array = G * inverse
        shared = e * (X @ self._v) / (reg * (inverse @ self._share))
        inverse *= self._share
        inverse *= shared[:, None]
        X += inverse
        return X


class Blocks:
    """The inverse of the Hessian's diagonal blocks, one for each class, among steps that sum to zero.

    The block of class k is the mean of p_k (1 - p_k) x x^T, so it knows that each class has its own hard
    samples, as the product above does not. The classes are tied by the one condition that steps sum to zero
    over the classes: where few classes compete at a time, that restores what the blocks leave out.
    With an intercept the features are centred, so that far-off means cost no digits. Samples are drawn in
    proportion to their weight in a block, so that it costs the same for any N.
    """

    def __init__(self, objective: Objective, theta: Array, A: Array) -> None:
        D = objective.data.n_features
        variances = A if A.ndim == 1 else namespace(A).linalg.diagonal(A)
        H = on_host(objective.class_grams(theta, variances / (_ROWS_PER_FEATURE * D + 200)))
        features = np.arange(D)
        H[:, features, features] += objective.reg
        product = Product.of(objective)
        self._mean = product.mean if objective.fit_intercept else None
        gram, mean = product.gram(objective.fit_intercept), on_host(product.mean)
        share = _SHARE * on_host(variances)
        threads = thread_count(None, len(H) * D**3)

        def prepare(k: int) -> Array:
            """Finish a block in place: a second array of that size may be too much. Return its scale."""
            block = H[k]
            if objective.fit_intercept:
                _centre(block, mean)
            block += share[k] * gram
            diagonal = np.einsum("dd->d", block)  # a view
            diagonal += 1e-7 * diagonal
            diagonal[diagonal == 0] = 1.0
            return np.asarray(1 / np.sqrt(diagonal))

        scale = in_threads(prepare, range(len(H)), threads)
        safe = max(s.max() for s in scale) < 1e15
        inverses: Array = np.empty(H.shape, dtype=np.float32 if safe else np.float64)

        def invert(k: int) -> None:
            s = scale[k]
            inverses[k] = _inverse(H[k] * s * s[:, None], inverses.dtype) * s * s[:, None]

        in_threads(invert, range(len(H)), threads)
        total = inverses.sum(axis=0, dtype=np.float64)
        spread = 1 / np.sqrt(total.diagonal())
        tie = _inverse(total * spread * spread[:, None], np.float64) * spread * spread[:, None]
        self._inverses, self._tie = beside(inverses, theta), beside(tie, theta)

    @staticmethod
    def cost(objective: Objective) -> float:
        """Return about what the blocks cost to make, in passes over the data; inf if they are too large."""
        D, C, N = objective.data.n_features, objective.data.n_classes, objective.data.n_samples
        return 3 * D * D / N if C * D * D <= _MOST_ENTRIES else np.inf

    def inverse(self, gradient: Array) -> Array:
        """Return the inverse times a gradient."""
        xp = namespace(gradient)
        C, size, _ = self._inverses.shape
        right = _centred(gradient, self._mean)
        narrow = self._inverses.dtype
        free = astype((self._inverses @ xp.astype(right, narrow)[:, :, None])[:, :, 0], np.float64)
        pull = xp.astype(self._tie @ xp.sum(free, axis=0), narrow)
        free -= (self._inverses.reshape(C * size, size) @ pull).reshape(C, size)
        return _uncentred(free, self._mean, gradient)


class Whole:
    """The inverse of the whole Hessian, where that is small enough to be a matrix.

    As ``diag(p) - p p^T`` is the sum over pairs of classes of ``p_j p_k (e_j - e_k) (e_j - e_k)^T``, the
    Hessian is a sum of terms that are never negative, one for each pair. Each is estimated from samples drawn
    in proportion to their weight in it, so that what is left of the true Hessian once it is divided by this
    one has eigenvalues near 1, however rare the pair; and so it costs the same for any N.
    """

    def __init__(self, objective: Objective, theta: Array, A: Array) -> None:
        (size, C), D = objective.shape, objective.data.n_features
        pairs, variances = np.triu_indices(C, 1), on_host(A).diagonal()
        least = -on_host(A)[pairs] / (_ROWS_PER_FEATURE * D + 200)
        means = on_host(objective.class_grams(theta, beside(least, theta), pairs=pairs))
        product = Product.of(objective)
        mean = on_host(product.mean)
        gram = product.gram(objective.fit_intercept)
        features = np.arange(D)
        width = gram.diagonal().copy()
        width[features] += objective.reg
        scale = 1 / np.sqrt(np.where(width > 0, width, 1.0))  # of features, lest a number be too large
        gram = gram * scale * scale[:, None]
        H: Array = np.zeros((C, size, C, size), dtype=np.float32)
        for j, k, block in zip(*pairs, means, strict=True):
            if objective.fit_intercept:
                _centre(block, mean)
            block *= scale
            block *= scale[:, None]
            H[j, :, j] += block
            H[k, :, k] += block
            H[j, :, k] -= block
            H[k, :, j] -= block
        del means
        for c in range(C):
            H[c, features, c, features] += objective.reg * np.square(scale[:D])
            H[c, :, c] += _SHARE * variances[c] * gram
            H[c] += (variances.mean() / C * gram)[:, None]  # along one vector added to all classes
        matrix = H.reshape(C * size, C * size)
        diagonal = np.einsum("dd->d", matrix)  # a view
        diagonal[diagonal == 0] = 1.0
        unit = 1 / np.sqrt(diagonal)
        matrix *= unit
        matrix *= unit[:, None]
        diagonal += 1e-7
        with blas_limited(None):
            self._inverse = beside(_inverse(matrix, H.dtype, _cholesky), theta)
        self._scale = beside(unit.reshape(C, size) * scale, theta)
        self._mean = product.mean if objective.fit_intercept else None
        self._threads = thread_count(None, matrix.size) if isinstance(theta, np.ndarray) else 1

    @staticmethod
    def cost(objective: Objective) -> float:
        """Return about what it costs to make, in iterations with it; inf if it is too large."""
        D, C, N = objective.data.n_features, objective.data.n_classes, objective.data.n_samples
        if (C * D) ** 2 > _MOST_ENTRIES or C >= MANY_CLASSES:
            return np.inf
        pairs = C * (C - 1) / 2
        work = pairs * _ROWS_PER_FEATURE * D**3 + (C * D) ** 3 + pairs * (1 + N / 8192) * _CALL
        return work / (8 * N * D * C)  # an iteration with it takes about twice as long as a pass

    def inverse(self, gradient: Array) -> Array:
        """Return the inverse times a gradient."""
        xp = namespace(gradient)
        right = _centred(gradient, self._mean)
        flat = astype((right * self._scale).reshape(-1), self._inverse.dtype)
        rows = shares(len(flat), self._threads)
        products = in_threads(lambda part: self._inverse[slice(*part)] @ flat, rows, self._threads)
        free = astype(xp.concat(products), np.float64).reshape(right.shape) * self._scale
        return _uncentred(free, self._mean, gradient)


def _centre(block: Array, mean: Array) -> None:
    """Turn a mean of [x, 1] [x, 1]^T into that of centred features, in place."""
    block[:-1] -= mean[:, None] * block[-1]
    block[:, :-1] -= block[:, -1:] * mean


def _centred(gradient: Array, mean: Array | None) -> Array:
    """Return a gradient (D', C) as that of centred features, (C, D') in float64; as it is without a mean."""
    right = astype(gradient.T, np.float64)
    if mean is None:
        return right
    centred: Array = namespace(right).concat([right[:, :-1] - right[:, -1:] * mean, right[:, -1:]], axis=1)
    return centred


def _uncentred(step: Array, mean: Array | None, like: Array) -> Array:
    """Return a step for centred features (C, D'), which is changed, as one for the features, like `like`."""
    if mean is not None:
        step[:, -1] -= step[:, :-1] @ mean
    out = empty_like(like)
    out[...] = step.T
    return out


def _cholesky(matrix: Array) -> Array:
    """Return the Cholesky factor as NumPy does, but with all threads of BLAS, and several times faster."""
    (factor,) = sl.get_lapack_funcs(("potrf",), (matrix,))
    upper, failed = factor(matrix.T, lower=False)
    if failed:
        raise np.linalg.LinAlgError("not positive definite")
    lower: Array = upper.T
    return lower


def _inverse(matrix: Array, dtype: Any, cholesky: Callable[[Array], Array] = np.linalg.cholesky) -> Array:
    """Return the inverse of a matrix of unit diagonal, factored as it is and then inverted in `dtype`.

    Where rounding has left it indefinite, as much is added to the diagonal as it takes.
    """
    for ridge in (0.0, 1e-8, 1e-6, 1e-4, 1e-2, 1.0, float(len(matrix))):
        try:  # by default NumPy's, which lets other threads work
            lower = cholesky(matrix + ridge * np.eye(len(matrix)) if ridge else matrix)
        except np.linalg.LinAlgError:
            continue
        upper = lower.astype(dtype, copy=False).T  # in Fortran's order, so that it can be changed in place
        (invert,) = sl.get_lapack_funcs(("potri",), (upper,))
        found, failed = invert(upper, lower=False, overwrite_c=True)
        if not failed:
            inverse: Array = found.T  # its lower triangle
            for at in range(0, len(inverse), 512):
                end = at + 512
                inverse[at:end, end:] = inverse[end:, at:end].T
                corner = np.tril(inverse[at:end, at:end])
                inverse[at:end, at:end] = corner + np.tril(corner, -1).T
            return inverse
    raise np.linalg.LinAlgError("a block of the Hessian is not finite")
