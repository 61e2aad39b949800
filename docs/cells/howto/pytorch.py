# %% replace
import torch
from torch import nn

from luce.nn import SoftmaxLoss

torch.manual_seed(0)
body = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
last, head = nn.Linear(128, 1000), SoftmaxLoss(in_features=128, num_classes=1000)
with torch.no_grad():
    last.weight.copy_(head.weight)
    last.bias.zero_()
inputs, target = torch.randn(32, 64), torch.randint(0, 1000, (32,))

before = nn.functional.cross_entropy(last(body(inputs)), target)  # builds the scores (32, 1000)
after = head(body(inputs), target)  # does not
print(before.item(), after.item())

# %% loop
from luce.nn import ArcFaceLoss

head = ArcFaceLoss(in_features=128, num_classes=1000, margin=0.3, scale=16.0)
optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=1e-2)
for step in range(60):
    loss = head(body(inputs), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 59:
        print(f"step {step:2}: loss {loss.item():.3f}")
print("right:", (head.predict(body(inputs)) == target).float().mean().item())

# %% own
from luce.nn import MarginLoss
from luce.nn.margins import Margin, Target


class Halfway(Margin):
    """A margin of one's own: psi = c - m (1 - c) / 2, largest where the angle is."""

    s = 16.0

    def __init__(self, m=0.3):
        super().__init__()
        self.m = m

    def forward(self, c, length, counted):
        return Target(c - self.m * (1 - c) / 2, torch.full_like(c, 1 + self.m / 2))


print(MarginLoss(128, 1000, Halfway())(body(inputs), target).item())
