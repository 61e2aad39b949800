# %% train
import sys

import numpy as np
from sklearn.datasets import load_digits

sys.path.append(str(ROOT / "examples"))
from cs231n import Softmax, check

X, y = load_digits(return_X_y=True)
X = (X - X.mean(axis=0)) / 16
model = Softmax()
history = model.train(
    X[:1200], y[:1200], learning_rate=0.5, reg=1e-4, num_iters=500, batch_size=200, verbose=True, seed=0
)
print("held out:", np.mean(model.predict(X[1200:]) == y[1200:]))

# %% picture tags=["hide-input"]
import matplotlib.pyplot as plt

figure, axis = plt.subplots()
axis.plot(history, lw=0.8)
axis.set(xlabel="iteration", ylabel="loss of the minibatch", yscale="log")


# %% check
def softmax_loss_vectorized(W, X, y, reg):
    """A student's: the mean is missing in the gradient, and log is taken of the probabilities."""
    Z = X @ W
    P = np.exp(Z - Z.max(axis=1, keepdims=True))
    P /= P.sum(axis=1, keepdims=True)
    loss = -np.log(P[np.arange(len(y)), y]).mean() + reg * np.sum(W * W)
    P[np.arange(len(y)), y] -= 1
    return loss, X.T @ P + 2 * reg * W


check(softmax_loss_vectorized)

# %% convention
import luce

W, reg = np.ones((64, 10)), 0.1
theirs = luce.softmax_loss(W, X, y, 0.0)[0] + reg * np.sum(W * W)
print(theirs, "=", luce.softmax_loss(W, X, y, 2 * reg)[0])
