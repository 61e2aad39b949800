# %% data
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import luce

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, train_size=400, random_state=0, stratify=y)
print(X.shape, X_test.shape)

# %% path
Cs = np.logspace(-6, 2, 17)
path = luce.softmax_path(X, y, Cs)
path.frame()[["C", "loss", "gap", "norm", "passes"]].round({"passes": 1})

# %% curves tags=["hide-input"]
import matplotlib.pyplot as plt
from scipy.special import logsumexp


def loss_and_error(W, b, X, y):
    Z = X @ W.T + b
    log_P = Z - logsumexp(Z, axis=1, keepdims=True)
    return -log_P[np.arange(len(y)), y].mean(), np.mean(Z.argmax(axis=1) != y)


train = np.array([loss_and_error(W, b, X, y) for W, b in zip(path.coefs, path.intercepts, strict=True)])
test = np.array(
    [loss_and_error(W, b, X_test, y_test) for W, b in zip(path.coefs, path.intercepts, strict=True)]
)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
axes[0].loglog(Cs, train[:, 0], label="400 to fit")
axes[0].loglog(Cs, test[:, 0], label="1397 held out")
axes[0].set(title="mean loss", xlabel="$C$", ylim=(1e-4, 5))
axes[0].legend()
axes[1].semilogx(Cs, 100 * train[:, 1])
axes[1].semilogx(Cs, 100 * test[:, 1])
axes[1].set(title="errors, per cent", xlabel="$C$", ylim=(-1, 20))
axes[2].semilogx(Cs, path.coefs[:, 3, 8:40])
axes[2].set(title="32 of the weights of class 3", xlabel="$C$")
# %% reading
for name, column in (("loss", 0), ("errors", 1)):
    best = int(np.argmin(test[:, column]))
    least, last = test[best, column], test[-1, column]
    print(f"held-out {name}: best at C = {Cs[best]:.1e}  ({least:.4f}; at the largest C {last:.4f})")

# %% warm
cold = 0
for C in Cs:
    cold += luce.SoftmaxClassifier(C=C).fit(X, y).history_[-1]["passes"]
print(f"17 fits along the path: {path.passes.sum():.0f} passes;  17 fits from zero: {cold:.0f}")

# %% cv
folds = luce.SoftmaxClassifierCV(Cs, cv=5, scoring="neg_log_loss").fit(X, y)
print(f"five folds choose  C = {folds.C_:.1e}: held-out loss {-folds.scores_.mean(axis=0).max():.4f}")
loo = luce.SoftmaxClassifierCV(Cs, cv="loo", scoring="neg_log_loss").fit(X, y)
print(f"leave-one-out says C = {loo.C_:.1e}: held-out loss {-loo.scores_.max():.4f}")
for name, model in (("folds", folds), ("leave-one-out", loo)):
    print(f"{name}: {np.mean(model.predict(X_test) == y_test):.4f} of the 1397 others right")

# %% cv_picture tags=["hide-input"]
figure, axis = plt.subplots()
mean, spread = -folds.scores_.mean(axis=0), folds.scores_.std(axis=0)
axis.fill_between(Cs, mean - spread, mean + spread, alpha=0.2)
axis.plot(Cs, mean, label="5 folds: mean, and spread of the folds")
axis.plot(Cs, -loo.scores_[0], label="leave-one-out, approximate")
axis.plot(Cs, test[:, 0], "--", color="gray", label="1397 held out")
axis.axvline(folds.C_, color="C0", ls=":")
axis.set(xscale="log", yscale="log", xlabel="$C$", ylabel="loss", ylim=(0.05, 3))
axis.legend()
# %% reg
N = len(X)
print(f"C = {folds.C_:.1e} and N = {N}: reg = 1 / (C N) = {1 / (folds.C_ * N):.2f}")
