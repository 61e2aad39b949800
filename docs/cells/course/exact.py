# %% data
import numpy as np
from sklearn.datasets import load_breast_cancer

import luce

X, y = load_breast_cancer(return_X_y=True)  # 569 x 30, in the units they were measured in
print("features' standard deviations from", f"{X.std(axis=0).min():.1e} to {X.std(axis=0).max():.1e}")
print(f"condition number of the centred data: {np.linalg.cond(X - X.mean(axis=0)):.1e}")

# %% descent
W, reg = np.zeros((30, 2)), 1e-3
largest = 0.5 * np.linalg.eigvalsh(X.T @ X / len(X)).max() + reg  # no curvature of the loss is above this
for step in range(1, 3001):
    loss, dW = luce.softmax_loss(W, X, y, reg)
    W -= 1 / largest * dW
    if step in (1, 10, 100, 1000, 3000):
        print(f"step {step:5}: loss {loss:.5f}   length of the gradient {np.linalg.norm(dW):.1e}")


# %% bound
def simple_gap(dW):
    return np.sum(dW**2) / (2 * reg)


print(f"bound from the gradient alone: at most {simple_gap(dW):.1e} above the optimum")
best = luce.SoftmaxClassifier(C=1 / (reg * len(X)), fit_intercept=False, tol=1e-9)
# For two classes the estimator keeps one vector; W = [-v/2, v/2] has half the penalty, so C is doubled.
best.set_params(C=2 / (reg * len(X))).fit(X, y)
print(f"in truth: {loss - best.loss_:.1e} above (optimum {best.loss_:.8f}, proven to {best.gap_:.0e})")

# %% solvers
from luce.solvers import LBFGS, SGD, Newton

runs = {}
for solver in (SGD(epochs=40, random_state=0), LBFGS(), Newton()):
    model = luce.SoftmaxClassifier(C=1 / (reg * len(X)), solver=solver, tol=1e-8, max_iter=300).fit(X, y)
    runs[type(solver).__name__] = model
    last = model.history_[-1]
    print(f"{type(solver).__name__:7} {model.status_:10} loss {model.loss_:.9f}", end="  ")
    print(f"gap {model.gap_:.1e}  {last['passes']:.0f} passes")

# %% solvers_picture tags=["hide-input"]
import matplotlib.pyplot as plt

floor = runs["Newton"].loss_ - runs["Newton"].gap_  # no loss can be below this
figure, axis = plt.subplots()
for name, model in runs.items():
    passes, losses = zip(*[(h["passes"], h["loss"]) for h in model.history_], strict=True)
    axis.loglog(passes, np.maximum(np.array(losses) - floor, 1e-12), "o-", ms=3, label=name)
axis.set(xlabel="passes over the data", ylabel="loss above the proven floor")
axis.legend()
# %% estimate
model = runs["LBFGS"]
for h in [*model.history_[:-1:2], model.history_[-1]]:
    kind = "proven" if h["certified"] else "estimate"
    print(f"iteration {h['iteration']:3}  loss {h['loss']:.9f}  gap {h['gap']:.1e} ({kind})")

# %% tolerance
optimum = luce.SoftmaxClassifier(C=10, tol=1e-10).fit(X, y).loss_
print("    tol   gap_ / loss_   in truth   passes")
for tol in (1e-1, 1e-2, 1e-4, 1e-6, 1e-8):
    model = luce.SoftmaxClassifier(C=10, tol=tol, solver=LBFGS()).fit(X, y)
    true = (model.loss_ - optimum) / optimum
    print(f"{tol:7.0e} {model.gap_ / model.loss_:14.1e} {true:10.1e} {model.history_[-1]['passes']:8.0f}")

# %% sklearn
import warnings

from sklearn.linear_model import LogisticRegression

warnings.simplefilter("ignore")  # it warns that it has not converged; here we ask by how much


def objective(model):
    """The mean loss and the penalty of a binary model, for C = 10."""
    scores = X @ model.coef_[0] + model.intercept_[0]
    return np.logaddexp(0, np.where(y == 1, -scores, scores)).mean() + np.sum(model.coef_**2) / (20 * len(X))


for max_iter in (100, 1000, 10000):
    peer = LogisticRegression(C=10, max_iter=max_iter).fit(X, y)
    above = objective(peer) / optimum - 1
    print(f"LogisticRegression, {peer.n_iter_[0]:5} iterations: {above:.1e} above the optimum")
exact = luce.SoftmaxClassifier(C=10).fit(X, y)
above = max(objective(exact) / optimum - 1, 0)
print(
    f"SoftmaxClassifier, {exact.n_iter_[0]:5} iterations: {above:.1e}, proven: {exact.gap_ / exact.loss_:.1e}"
)
