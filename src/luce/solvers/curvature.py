"""Cheap inverses near that of the Hessian, from which L-BFGS starts."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl

from luce.arrays import namespace
from luce.loss.inputs import Array
from luce.objective import Objective
from luce.solvers.certificate import Inverse

_MOST_ENTRIES = 1 << 26  # of the blocks of all classes together, in single precision
_ROWS_PER_FEATURE = 6  # drawn for each class's block
_SHARE = 1e-3  # of each block comes from all samples alike: what the few drawn ones miss must not look free


class Product:
    """The inverse of A (x) S + reg I: classes by classes times features by features.

    The Hessian is the mean over samples of (diag(p) - p p^T) (x) x x^T; the product of the two means, A and
    the covariance S of the features, is near it, and its inverse takes two small eigendecompositions: that of
    S serves all classes, all strengths of the penalty and every A. With an intercept the features are
    centred, which makes the intercept a block of its own. Where D is large against the work of a pass, only
    the diagonal of S is used.
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
            self.e, self.Q = namespace(S).linalg.eigh(S)
        else:
            self.mean, second = objective.moments()
            self.e = second - self.mean * self.mean if objective.fit_intercept else second
        self.e = namespace(self.e).clip(self.e, 0.0, None)

    @classmethod
    def of(cls, objective: Objective) -> Product:
        """Return the features' half, made once for all objectives on the same data."""
        made: Product = objective.once("curvature", lambda: cls(objective))
        return made

    def inverse(self, objective: Objective, A: Array) -> Inverse:
        """Return the inverse for a mean class curvature A."""
        a, R, width = self._spectrum(objective, A)

        def apply(gradient: Array) -> Array:
            G = objective.weights(gradient)
            if objective.fit_intercept:
                G = G - self.mean[:, None] * gradient[-1]
            W = G @ R if self.Q is None else self.Q.T @ G @ R
            W = (W / width) @ R.T
            if self.Q is not None:
                W = self.Q @ W
            if not objective.fit_intercept:
                return W
            intercept = ((gradient[-1] @ R) / a) @ R.T - self.mean @ W
            joined: Array = namespace(W).concat([W, intercept[None]])
            return joined

        return apply

    def sample_blocks(self, objective: Objective, A: Array, X: Array) -> tuple[Array, Array]:
        """Return R (C, C) and s (N, C): for a sample [x, 1], its block of the inverse is R diag(s_i) R^T."""
        a, R, width = self._spectrum(objective, A)
        offset = X - self.mean if objective.fit_intercept else X
        if self.Q is not None:
            offset = offset @ self.Q
        s = np.square(offset) @ (1 / width)
        return R, s + 1 / a if objective.fit_intercept else s

    def gram(self, intercept: bool) -> Array:
        """Return the mean of x x^T, or of [x, 1] [x, 1]^T with x centred."""
        S = np.diag(self.e) if self.Q is None else (self.Q * self.e) @ self.Q.T
        return sl.block_diag(S, 1.0) if intercept else S

    def _spectrum(self, objective: Objective, A: Array) -> tuple[Array, Array, Array]:
        """Return the eigenvalues and eigenvectors of A, and the eigenvalues (D, C) of what is inverted."""
        a, R = np.linalg.eigh(A)
        seen = a > 1e-8 * a[-1]  # not the flat direction: one vector added to all classes
        a = np.where(seen, a, a[-1] if a[-1] > 0 else 1.0)
        width = np.multiply.outer(self.e, a) + objective.reg
        return a, R, np.maximum(width, 1e-10 * width.max(initial=1e-300))


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
        H = objective.class_grams(theta, A.diagonal() / (_ROWS_PER_FEATURE * D + 200))
        features = np.arange(D)
        H[:, features, features] += objective.reg
        product = Product.of(objective)
        self._mean = product.mean if objective.fit_intercept else None
        gram = product.gram(objective.fit_intercept)
        for block, share in zip(H, _SHARE * A.diagonal(), strict=True):  # no second array of that size
            if self._mean is not None:
                block[:-1] -= self._mean[:, None] * block[-1]
                block[:, :-1] -= block[:, -1:] * self._mean
            block += share * gram
        diagonal = np.einsum("kdd->kd", H)  # a view
        diagonal += 1e-7 * diagonal
        diagonal[diagonal == 0] = 1.0
        scale = 1 / np.sqrt(diagonal)
        safe = bool(scale.max() < 1e15)
        narrow = np.float32 if safe else np.float64
        self._inverses: Array = np.empty(H.shape, dtype=narrow)
        for inverse, block, s in zip(self._inverses, H, scale, strict=True):
            inverse[...] = _inverse(block * s * s[:, None], narrow) * s * s[:, None]
        total = self._inverses.sum(axis=0, dtype=np.float64)
        spread = 1 / np.sqrt(total.diagonal())
        self._tie = _inverse(total * spread * spread[:, None], np.float64) * spread * spread[:, None]

    @staticmethod
    def cost(objective: Objective) -> float:
        """Return about what the blocks cost to make, in passes over the data; inf if they are too large."""
        D, C, N = objective.data.n_features, objective.data.n_classes, objective.data.n_samples
        return 3 * D * D / N if C * D * D <= _MOST_ENTRIES else np.inf

    def inverse(self, gradient: Array) -> Array:
        """Return the inverse times a gradient."""
        C, size, _ = self._inverses.shape
        narrow = self._inverses.dtype
        right = gradient.T.astype(np.float64)
        if self._mean is not None:
            right[:, :-1] -= right[:, -1:] * self._mean
        free = np.matmul(self._inverses, right.astype(narrow)[:, :, None])[:, :, 0].astype(np.float64)
        pull = (self._tie @ free.sum(axis=0)).astype(narrow)
        free -= (self._inverses.reshape(C * size, size) @ pull).reshape(C, size)
        if self._mean is not None:
            free[:, -1] -= free[:, :-1] @ self._mean
        return np.ascontiguousarray(free.T)


def _inverse(matrix: Array, dtype: type) -> Array:
    """Return the inverse of a positive definite matrix, factored as it is and then inverted in `dtype`."""
    factor = sl.cholesky(matrix, lower=True, check_finite=False).astype(dtype, order="F")
    (invert,) = sl.get_lapack_funcs(("potri",), (factor,))
    inverse, failed = invert(factor, lower=True, overwrite_c=True)
    if failed:
        raise np.linalg.LinAlgError("a block of the Hessian is not positive definite")
    lower: Array = np.tril(inverse)
    return lower + np.tril(lower, -1).T
