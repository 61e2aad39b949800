"""CS231n's Softmax classifier on luce's loss, to hold your own solution against.

    import sys; sys.path.append("luce/examples")
    from cs231n import Softmax, check
    from softmax import softmax_loss_naive, softmax_loss_vectorized  # yours

    check(softmax_loss_naive)
    check(softmax_loss_vectorized)

CS231n's text of 2025 penalises ``reg * sum(W * W)``, without the half that older notes and luce have: both
the penalty and its gradient are twice luce's for the same reg. ``half=True`` is for the older assignments.
"""

import numpy as np

import luce


def softmax_loss(W, X, y, reg, half=False):
    """Loss and gradient in CS231n's convention; W (D, C), X (N, D), y (N,)."""
    return luce.softmax_loss(W, X, y, reg if half else 2 * reg)


class LinearClassifier:
    """Gradient descent on minibatches; the loss comes from a subclass."""

    def __init__(self):
        self.W = None

    def train(
        self, X, y, learning_rate=1e-3, reg=1e-5, num_iters=100, batch_size=200, verbose=False, seed=None
    ):
        """Train on X (N, D) and y (N,) with labels 0 to C - 1; return the loss at every iteration."""
        rng = np.random.default_rng(seed)
        if self.W is None:
            self.W = 0.001 * rng.standard_normal((X.shape[1], np.max(y) + 1))
        history = []
        for it in range(num_iters):
            rows = rng.choice(len(X), batch_size)
            loss, grad = self.loss(X[rows], y[rows], reg)
            self.W += -learning_rate * grad
            history.append(loss)
            if verbose and it % 100 == 0:
                print(f"iteration {it} / {num_iters}: loss {loss:f}")
        return history

    def predict(self, X):
        """The class with the highest score for each row of X, (N,)."""
        return np.argmax(X @ self.W, axis=1)

    def loss(self, X_batch, y_batch, reg):
        """Loss and gradient on a minibatch."""
        raise NotImplementedError


class Softmax(LinearClassifier):
    """Softmax loss, as in CS231n of 2025."""

    def loss(self, X_batch, y_batch, reg):
        return softmax_loss(self.W, X_batch, y_batch, reg)


def check(yours, half=False, seed=0):
    """Hold your ``f(W, X, y, reg) -> (loss, dW)`` against luce and say what differs; True if nothing does."""
    rng = np.random.default_rng(seed)
    X, y, W = rng.standard_normal((20, 7)), rng.integers(0, 5, 20), rng.standard_normal((7, 5))
    cases = {
        "loss and gradient without penalty": (W, X, y, 0.0),
        "the penalty": (W, X, y, 0.5),
        "large scores (subtract the maximum)": (1e3 * W, X, y, 0.0),
        "scores of 1e4 (stay in logarithms)": (1e4 * W, X, y, 0.0),
    }
    fine = True
    for name, (W, X, y, reg) in cases.items():
        want_loss, want_dW = softmax_loss(W, X, y, reg, half)
        with np.errstate(all="ignore"):
            loss, dW = yours(W.copy(), X.copy(), y.copy(), reg)
        faults = []
        if not np.isclose(loss, want_loss, rtol=1e-7):
            faults.append(f"loss {loss:.8g}, should be {want_loss:.8g}{_factor(loss, want_loss)}")
        if np.shape(dW) != np.shape(want_dW):
            faults.append(f"gradient has shape {np.shape(dW)}, should have {want_dW.shape}")
        elif not np.allclose(dW, want_dW, rtol=1e-6, atol=1e-9):
            ratio = _factor(np.vdot(dW, want_dW), np.vdot(want_dW, want_dW))
            faults.append(f"gradient differs by {abs(dW - want_dW).max():.2g}{ratio}")
        print(f"{'ok  ' if not faults else 'FAIL'} {name}" + "".join(f"\n       {fault}" for fault in faults))
        fine &= not faults
    return fine


def _factor(value, wanted):
    """A hint where the two are a plain factor apart: 1/N forgotten, a sign, a half."""
    ratio = value / wanted if wanted else np.nan
    for factor, hint in ((-1, "the sign"), (20, "the mean over N = 20"), (1 / 20, "divided by N twice")):
        if np.isclose(ratio, factor, rtol=1e-6):
            return f": {hint}?"
    return ""


if __name__ == "__main__":
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = (X - X.mean(axis=0)) / 16
    model = Softmax()
    model.train(X[:1200], y[:1200], learning_rate=0.5, reg=1e-4, num_iters=1000, verbose=True, seed=0)
    print(f"held out: {np.mean(model.predict(X[1200:]) == y[1200:]):.3f}")
    check(softmax_loss)
