# %% scores
import numpy as np

scores = np.array([2.0, 1.0, -1.0])  # one sample, three classes
probabilities = np.exp(scores) / np.exp(scores).sum()
print("p    =", probabilities.round(4), " sum =", probabilities.sum())
print("loss =", (-np.log(probabilities)).round(4), " if the true class is 0, 1, 2")

# %% curve tags=["hide-input"]
import matplotlib.pyplot as plt

lead = np.linspace(-6, 6, 300)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
axes[0].plot(lead, 1 / (1 + np.exp(-lead)))
axes[0].set(xlabel=r"$z_y - z_{other}$", title=r"$p_y$")
axes[1].plot(lead, np.log1p(np.exp(-lead)))
axes[1].plot(lead, np.maximum(0, -lead), ":", color="gray", label=r"$\max(0, -(z_y - z_{other}))$")
axes[1].set(xlabel=r"$z_y - z_{other}$", title=r"$-\log p_y$")
axes[1].legend()
# %% overflow
with np.errstate(all="ignore"):
    for top in (10.0, 100.0, 700.0, 710.0):
        e = np.exp([top, 0.0, -top])
        print(f"scores {top:5.0f}, 0, {-top:5.0f}:  exp = {e[0]:9.3g}   p = {e / e.sum()}")


# %% shift
def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


print(softmax(scores), "\n", softmax(scores + 5000.0))


# %% textbook
def softmax_loss_textbook(W, X, y, reg):
    """Subtracts the maximum, and is still wrong."""
    P = softmax(X @ W)  # (N, C)
    Y = np.zeros_like(P)
    Y[np.arange(len(y)), y] = 1
    return -np.sum(Y * np.log(P)) / len(y) + reg / 2 * np.sum(W * W)


X, y = np.eye(2), np.array([0, 1])
with np.errstate(all="ignore"):
    for size in (1.0, 100.0, 700.0, 800.0, 1e4):
        W = np.array([[size, 0.0], [0.0, size]])  # both samples right, by a lead of `size`
        right = softmax_loss_textbook(W, X, y, reg=0.0)
        wrong = softmax_loss_textbook(-W, X, y, reg=0.0)  # both wrong: the loss is about `size`
        print(f"lead {size:7.0f}:  all right, loss = {right:<10.4g} all wrong, loss = {wrong:.6g}")

# %% underflow
with np.errstate(all="ignore"):
    for dtype in (np.float64, np.float32):
        gaps = np.arange(1, 1000, dtype=dtype)
        p = np.exp(-gaps)
        first = int(np.argmax(p == 0))
        print(f"{np.dtype(dtype)}: exp(-{gaps[first]:.0f}) = {p[first]}, log of it = {np.log(p[first])}")

# %% figure tags=["hide-input"]
gap = np.linspace(0, 1000, 2001)
with np.errstate(all="ignore"):
    naive = -np.log(np.exp(-gap) / (1 + np.exp(-gap)))
stable = gap + np.log1p(np.exp(-gap))
figure, axis = plt.subplots()
axis.plot(gap, stable, lw=5, alpha=0.3, label=r"$-(z_y - z_{max} - \log\sum_j e^{z_j - z_{max}})$")
axis.plot(gap, naive, label=r"$-\log(p_y)$")
axis.axvline(745.13, color="gray", ls=":")
axis.text(752, 60, r"$e^{-745.13} \to 0$", color="gray")
axis.set(xlabel=r"$z_{max} - z_y$", ylabel="loss")
axis.legend()


# %% stable
def softmax_loss_stable(W, X, y, reg):
    Z = X @ W
    Z = Z - Z.max(axis=1, keepdims=True)
    log_P = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))  # a sum that holds a 1: its log is safe
    return -log_P[np.arange(len(y)), y].mean() + reg / 2 * np.sum(W * W)


for size in (1.0, 100.0, 800.0, 1e4):
    W = np.array([[size, 0.0], [0.0, size]])
    print(f"lead {size:7.0f}:", softmax_loss_stable(W, X, y, 0.0), softmax_loss_stable(-W, X, y, 0.0))

# %% luce
import luce

W = np.array([[1e4, 0.0], [0.0, 1e4]])
for form in (luce.softmax_loss_naive, luce.softmax_loss_vectorized, luce.softmax_loss):
    print(f"{form.__name__:24}", form(W, X, y, reg=0.0)[0], form(-W, X, y, reg=0.0)[0])

# %% start
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 20)), rng.integers(0, 10, 1000)
print("W = 0:     ", luce.softmax_loss(np.zeros((20, 10)), X, y, reg=0.0)[0], " log 10 =", np.log(10))
print("W = 0.0001:", luce.softmax_loss(1e-4 * rng.standard_normal((20, 10)), X, y, reg=0.0)[0])
