# %% problem
import matplotlib.pyplot as plt
import numpy as np

import luce

rng = np.random.default_rng(3)
N = 200
y = np.repeat([0, 1], N // 2)
X = rng.standard_normal((N, 2)) + np.where(y, 1.0, -1.0)[:, None] * [0.9, 0.5]
reg = 0.02


def as_W(w):
    return np.stack([-w, w], axis=1) / 2  # two classes: only the difference of the columns matters


def loss_and_slope(w, X=X, y=y):
    loss, dW = luce.softmax_loss(as_W(w), X, y, reg)
    return loss, (dW[:, 1] - dW[:, 0]) / 2


# %% paths
def descend(learning_rate, steps, start=(-2.0, 2.5), batch=None, X=X, y=y, seed=0):
    """The whole algorithm: W += -learning_rate * gradient."""
    draw = np.random.default_rng(seed)
    w = np.array(start)
    path = [w.copy()]
    for _ in range(steps):
        rows = slice(None) if batch is None else draw.choice(len(X), batch, replace=False)
        w -= learning_rate * loss_and_slope(w, X[rows], y[rows])[1]
        path.append(w.copy())
    return np.array(path)


rates = [0.3, 3.0, 16.0]
for rate in rates:
    path = descend(rate, 30)
    losses = [loss_and_slope(w)[0] for w in path]
    print(
        f"rate {rate:4}: loss {losses[0]:.3f} -> {losses[10]:.4f} after 10, {losses[30]:.4f} after 30 steps"
    )


# %% paths_picture tags=["hide-input"]
def contours(axis, X=X, y=y, x=(-3, 5), z=(-3, 4)):
    a, b = np.meshgrid(np.linspace(*x, 70), np.linspace(*z, 70))
    values = [loss_and_slope(np.array(w), X, y)[0] for w in zip(a.ravel(), b.ravel(), strict=True)]
    values = np.reshape(values, a.shape)
    low = values.min()
    levels = low + np.geomspace(0.002, values.max() - low, 14)
    axis.contour(a, b, values, levels=levels, cmap="Greys_r", linewidths=0.6)
    axis.set(xlabel="$w_1$", xlim=x, ylim=z)
    axis.grid(False)


figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
for axis, rate in zip(axes, rates, strict=True):
    contours(axis)
    axis.plot(*descend(rate, 30).T, ".-", lw=1, ms=5, color="C3")
    axis.set_title(f"learning rate {rate}")
axes[0].set_ylabel("$w_2$")


# %% limit
def hessian(w, X, h=1e-4):
    def slope(w):
        return loss_and_slope(w, X, y)[1]

    return np.array([(slope(w + h * e) - slope(w - h * e)) / (2 * h) for e in np.eye(2)])


bottom = descend(3.0, 400)[-1]
steepest = np.linalg.eigvalsh(hessian(bottom, X)).max()
print(
    f"curvature at the minimum {steepest:.4f}, so the limit there is 2 / {steepest:.4f} = {2 / steepest:.2f}"
)
for factor in (0.9, 0.99, 1.01, 1.1):
    path = descend(factor * 2 / steepest, 400, start=bottom + 0.01)
    print(f"{factor} x limit: distance from the minimum 0.014 -> {np.linalg.norm(path[-1] - bottom):.2g}")

# %% stretched
stretch = np.array([1.0, 6.0])
X_long = X * stretch
for name, data in (("as it was", X), ("second feature in units a sixth as large", X_long)):
    eigenvalues = np.linalg.eigvalsh(hessian(np.zeros(2), data))
    print(f"{name}: curvatures {eigenvalues.round(3)}, ratio {eigenvalues.max() / eigenvalues.min():.0f}")

# %% stretched_picture tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4))
contours(axes[0])
axes[0].plot(*descend(3.0, 30).T, ".-", lw=1, color="C3")
axes[0].set(title="learning rate 3, round valley", ylabel="$w_2$")
contours(axes[1], X_long, y, x=(-3, 4), z=(-0.6, 1.0))
axes[1].plot(*descend(0.36, 30, start=(-2.0, 0.6), X=X_long).T, ".-", lw=1, color="C3")
axes[1].set(title="learning rate 0.36, long valley")
# %% batches
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
for axis, batch in zip(axes, (None, 32, 4), strict=True):
    contours(axis)
    axis.plot(*descend(3.0, 60, batch=batch).T, ".-", lw=0.7, ms=3, color="C3")
    axis.set_title(f"batch of {batch or N}: {60 * (batch or N):,} looks")
axes[0].set_ylabel("$w_2$")
# %% digits
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

images, digits = load_digits(return_X_y=True)
images = StandardScaler().fit_transform(images)


def train(batch, learning_rate, epochs=15, decay=False):
    draw, W, history = np.random.default_rng(0), np.zeros((64, 10)), []
    steps = epochs * -(-len(images) // batch)
    for step in range(steps):
        if step % (steps // epochs) == 0:
            history.append(luce.softmax_loss(W, images, digits, 1e-3)[0])
        rows = draw.choice(len(images), batch, replace=False)
        rate = learning_rate * (0.5 * (1 + np.cos(np.pi * step / steps)) if decay else 1.0)
        W -= rate * luce.softmax_loss(W, images[rows], digits[rows], 1e-3)[1]
    return [*history[:epochs], luce.softmax_loss(W, images, digits, 1e-3)[0]]


exact = luce.SoftmaxClassifier(C=1 / (1e-3 * len(images)), fit_intercept=False, tol=1e-8)
optimum = exact.fit(images, digits).loss_
runs = {
    "all 1797, rate 0.5": train(len(images), 0.5),
    "128, rate 0.5": train(128, 0.5),
    "16, rate 0.05": train(16, 0.05),
    "16, rate 0.5": train(16, 0.5),
    "16, rate 0.5 falling to 0": train(16, 0.5, decay=True),
}
print(f"optimum {optimum:.5f}")
for name, history in runs.items():
    print(f"{name:28} after 15 epochs {history[-1]:.5f}")

# %% digits_picture tags=["hide-input"]
figure, axis = plt.subplots()
for name, history in runs.items():
    axis.semilogy(np.array(history) - optimum, label=name)
axis.set(xlabel="epochs (passes over the data)", ylabel="loss above the optimum")
axis.legend(fontsize=8)
# %% luce
from luce.solvers import SGD

raw = load_digits().data
model = luce.SoftmaxClassifier(C=1 / (1e-3 * len(raw)), solver=SGD(epochs=15, random_state=0))
model.fit(raw, digits)
print(f"loss {model.loss_:.5f}, at most {model.gap_:.1e} above the optimum ({model.status_})")
