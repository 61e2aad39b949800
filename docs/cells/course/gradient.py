# %% one
import numpy as np

import luce

z, target = np.array([2.0, 1.0, -1.0]), 1


def loss_of_scores(z):
    shifted = z - z.max()
    return np.log(np.exp(shifted).sum()) - shifted[target]


p = np.exp(z) / np.exp(z).sum()
onehot = np.array([0.0, 1.0, 0.0])
print("p - y     =", (p - onehot).round(6), " sum =", (p - onehot).sum().round(12))
print("numerical =", luce.numerical_gradient(loss_of_scores, z).round(6))

# %% arrows tags=["hide-input"]
import matplotlib.pyplot as plt

rng = np.random.default_rng(1)
Z = rng.standard_normal((4, 5)) * 1.5
y = np.array([0, 2, 4, 1])
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
Y = np.eye(5)[y]
figure, axes = plt.subplots(1, 3, figsize=(8, 2.6))
for axis, (name, M) in zip(axes, {"$P$": P, "$Y$": Y, "$P - Y$": P - Y}.items(), strict=True):
    axis.imshow(M, vmin=-1, vmax=1)
    axis.set(title=name, xlabel="class $j$", xticks=range(5), yticks=range(4))
    axis.grid(False)
    for (i, j), value in np.ndenumerate(M):
        axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8)
axes[0].set_ylabel("sample $i$")


# %% matrix
def softmax_gradient(W, X, y, reg):
    Z = X @ W  # (N, C)
    Z = Z - Z.max(axis=1, keepdims=True)
    P = np.exp(Z)
    P /= P.sum(axis=1, keepdims=True)
    P[np.arange(len(y)), y] -= 1  # P - Y, without ever building Y
    return X.T @ P / len(y) + reg * W  # (D, N) @ (N, C) = (D, C)


X, y = rng.standard_normal((50, 6)), rng.integers(0, 4, 50)
W, reg = rng.standard_normal((6, 4)), 0.1
loss, dW = luce.softmax_loss_naive(W, X, y, reg)
print("loops against matrices:  ", luce.relative_error(dW, softmax_gradient(W, X, y, reg)))
numerical = luce.numerical_gradient(lambda V: luce.softmax_loss_naive(V, X, y, reg)[0], W)
print("loops against numerical: ", luce.relative_error(dW, numerical))

# %% mistakes
mistakes = {
    "right": softmax_gradient(W, X, y, reg),
    "no 1/N": softmax_gradient(W, X, y, 0.0) * len(y) + reg * W,
    "no penalty": softmax_gradient(W, X, y, 0.0),
    "2 reg W for reg/2 ||W||^2": softmax_gradient(W, X, y, 2 * reg),
    "Y - P, sign forgotten": -softmax_gradient(W, X, y, 0.0) + reg * W,
    "labels off by one": softmax_gradient(W, X, (y + 1) % 4, reg),
}
for name, gradient in mistakes.items():
    print(f"{name:28} {luce.relative_error(gradient, numerical):.1e}")

# %% step
steps = 10.0 ** np.arange(-12, 0.5, 0.5)
exact = dW
errors = {"central": [], "one-sided": []}
value = lambda V: luce.softmax_loss_vectorized(V, X, y, reg)[0]
for h in steps:
    central = luce.numerical_gradient(value, W, h)
    one_sided = np.array([(value(W + h * E.reshape(W.shape)) - loss) / h for E in np.eye(W.size)])
    errors["central"].append(abs(central - exact).max())
    errors["one-sided"].append(abs(one_sided.reshape(W.shape) - exact).max())
for name, e in errors.items():
    print(f"{name}: best step {steps[np.argmin(e)]:.0e}, error there {min(e):.0e}")

# %% step_picture tags=["hide-input"]
figure, axis = plt.subplots()
for name, e in errors.items():
    axis.loglog(steps, e, "o-", ms=3, label=name)
eps = np.finfo(float).eps
axis.loglog(steps, eps / steps, ":", color="gray", label=r"$\epsilon/h$")
axis.set(xlabel="$h$", ylabel="largest error", ylim=(1e-13, 10))
axis.legend()
# %% forms
for form in (luce.softmax_loss_naive, luce.softmax_loss_vectorized, luce.softmax_loss):
    value, gradient = form(W, X, y, reg)
    print(f"{form.__name__:24} loss {value:.15f}   gradient differs by {abs(gradient - dW).max():.1e}")
