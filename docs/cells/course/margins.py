# %% psi
import matplotlib.pyplot as plt
import numpy as np
import torch

from luce.nn.margins import ArcFace, CosFace, LSoftmax

theta = torch.linspace(0, torch.pi, 400, dtype=torch.float64)
ones, counted = torch.ones_like(theta), torch.ones(400, dtype=torch.bool)
margins = {
    r"softmax: $\cos\theta$": LSoftmax(m=1),
    "L-Softmax, $m=2$": LSoftmax(m=2),
    "L-Softmax, $m=4$": LSoftmax(m=4),
    "CosFace, $m=0.35$": CosFace(m=0.35),
    "ArcFace, $m=0.5$": ArcFace(m=0.5),
}
figure, axis = plt.subplots()
for name, margin in margins.items():
    psi = margin(theta.cos(), ones, counted).psi
    axis.plot(theta / torch.pi, psi, label=name)
axis.set(xlabel=r"$\theta / \pi$", ylabel=r"$\psi(\theta)$")
axis.legend()


# %% boundary tags=["hide-input"]
def regions(axis, margin, title):
    """Two class vectors at +-40 degrees: where a feature satisfies class 1, class 2, or neither."""
    angle = np.radians(40)
    grid = np.linspace(-1.1, 1.1, 500)
    x = torch.tensor(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))
    unit = x / x.norm(dim=1, keepdim=True)
    vectors = torch.tensor([[np.sin(angle), np.cos(angle)], [-np.sin(angle), np.cos(angle)]])
    c = unit @ vectors.T
    n, count = torch.ones(len(x), dtype=c.dtype), torch.ones(len(x), dtype=torch.bool)
    first = margin(c[:, 0], n, count).psi > c[:, 1]
    second = margin(c[:, 1], n, count).psi > c[:, 0]
    picture = (first.int() - second.int()).reshape(500, 500).double()
    picture[torch.hypot(x[:, 0], x[:, 1]).reshape(500, 500) > 1.05] = torch.nan
    axis.imshow(picture, extent=(-1.1, 1.1, -1.1, 1.1), origin="lower", vmin=-2, vmax=2)
    for v in vectors.numpy():
        axis.annotate("", v, (0, 0), arrowprops={"arrowstyle": "-|>", "color": "black"})
    axis.set(title=title, xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


figure, axes = plt.subplots(1, 4, figsize=(10, 2.8))
regions(axes[0], LSoftmax(m=1), "softmax")
regions(axes[1], LSoftmax(m=2), "L-Softmax, $m=2$")
regions(axes[2], CosFace(m=0.35), "CosFace, $m=0.35$")
regions(axes[3], ArcFace(m=0.5), "ArcFace, $m=0.5$")

# %% pieces
c = torch.cos(torch.tensor([0.2, 1.0, 2.0, 3.0], dtype=torch.float64))
for m in (2, 3, 4):
    psi, slope, _ = LSoftmax(m)(c, torch.ones_like(c), torch.ones(4, dtype=torch.bool))
    print(f"m = {m}: psi = {psi.numpy().round(4)}   d psi / dc = {slope.numpy().round(3)}")

# %% train
from sklearn.datasets import load_digits
from torch import nn

from luce.nn import MarginLoss
from luce.nn.margins import Anneal

images, digits = (torch.tensor(part) for part in load_digits(return_X_y=True))
images = images.float() / 16
fit, held = slice(0, 1200), slice(1200, None)


def train(margin, width=2, epochs=60):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, width))
    head = MarginLoss(width, 10, margin)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=3e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for rows in torch.randperm(1200).split(64):
            loss = head(net(images[rows]), digits[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        features = net(images)
    return features, head.weight.detach(), head.predict(features)


heads = {
    "softmax": None,
    "L-Softmax, $m=3$": LSoftmax(3, Anneal(base=100.0, gamma=0.1, minimum=1.0)),
    "CosFace, $m=0.2$, $s=16$": CosFace(m=0.2, s=16.0),
    "ArcFace, $m=0.2$, $s=16$": ArcFace(m=0.2, s=16.0),
}
trained = {name: train(margin) for name, margin in heads.items()}


def spread(features, labels):
    """The mean angle, in degrees, between a feature and the mean direction of its class."""
    unit = nn.functional.normalize(features)
    means = nn.functional.normalize(torch.stack([unit[labels == k].mean(0) for k in range(10)]))
    return torch.rad2deg((unit * means[labels]).sum(1).clamp(-1, 1).acos()).mean()


for name, (features, _, predicted) in trained.items():
    wrong = (predicted[held] != digits[held]).float().mean()
    angle = spread(features[held], digits[held])
    print(f"{name:26} {100 * wrong:4.1f} % wrong, {angle:4.1f} degrees from the class's mean")

# %% petals tags=["hide-input"]
figure, axes = plt.subplots(1, 4, figsize=(11, 2.9))
for axis, (name, (features, vectors, _)) in zip(axes, trained.items(), strict=True):
    points = features[held]
    reach = float(points.norm(dim=1).quantile(0.99))
    axis.scatter(*points.T, c=digits[held], cmap="tab10", s=5, linewidths=0)
    for v in nn.functional.normalize(vectors) * reach:
        axis.plot([0, v[0]], [0, v[1]], color="black", lw=0.5)
    axis.set(title=name, xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axis.grid(False)

# %% tests
from luce.nn.functional import linear_cross_entropy

torch.manual_seed(0)
x, target = torch.randn(8, 5, dtype=torch.float64), torch.randint(0, 4, (8,))
w = torch.randn(4, 5, dtype=torch.float64)
plain = torch.nn.functional.cross_entropy(x @ w.T, target)
for m in (1, 2, 3, 4):
    loss = linear_cross_entropy(x, w, target, margin=LSoftmax(m))
    print(f"m = {m}: loss {loss:.6f}", "= softmax" if torch.isclose(loss, plain) else "")

# %% derivative
x.requires_grad_(), w.requires_grad_()
head = lambda x, w: linear_cross_entropy(x, w, target, margin=LSoftmax(4))
print("gradient agrees with numerical differences:", torch.autograd.gradcheck(head, (x, w)))
