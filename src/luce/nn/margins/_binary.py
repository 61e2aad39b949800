"""SphereFace2: every class a yes-or-no question of its own."""

import math

from torch import Tensor

from luce.errors import InputError
from luce.nn.margins._base import Gradient, Margin, Target, check_choice, check_positive, passed_on


class SphereFace2(Margin):
    """SphereFace2 (C-type): one binary logistic loss per class in place of the softmax.

    With g(c) = 2 ((c + 1) / 2)^t - 1 and a bias b shared by all classes (the `bias` of the loss)::

        loss = balance / s softplus(-(s (g(c_y) - m) + b))
               + (1 - balance) / s sum_{j != y} softplus(s (g(c_j) + m) + b)

    Parameters
    ----------
    m : float
        Margin in g.
    s : float
        Length of the features.
    t : float
        Power in g, at least 1: larger values spread the similarities of close pairs.
    balance : float
        Weight of the target against the other classes, between 0 and 1.
    gradient : {"exact", "straight_through"}
        The derivative of g, or 1 as in the authors' code.

    References
    ----------
    Wen, Liu, Weller, Raj, Singh: SphereFace2: Binary Classification is All You Need for Deep Face
    Recognition, ICLR 2022.
    """

    negatives = "sphereface2"

    def __init__(
        self,
        m: float = 0.4,
        s: float = 40.0,
        t: float = 3.0,
        balance: float = 0.7,
        gradient: Gradient = "exact",
    ) -> None:
        super().__init__()
        check_choice("gradient", gradient, Gradient)
        if not 0 < balance < 1:
            raise InputError(f"balance is {balance!r}; it must lie between 0 and 1")
        if not t >= 1:
            raise InputError(f"t is {t!r}; it must be at least 1")
        self.m, self.t, self.balance = float(m), float(t), float(balance)
        self.s: float = check_positive("s", s)
        self.gradient = gradient
        self.constants = (self.s, self.m, self.t, float(gradient == "straight_through"))
        self.binary = (self.balance / self.s, (1 - self.balance) / self.s)

    def forward(self, c: Tensor, length: Tensor, counted: Tensor) -> Target:
        """Psi and its derivative; see `Margin.forward`."""
        half = (c + 1) / 2
        slope = self.t * half ** (self.t - 1)
        return Target(2 * half**self.t - 1 - self.m, passed_on(slope, self.gradient))

    def initial_bias(self, num_classes: int) -> float:
        """The b that balances targets against other classes when all cosines are 0, as at the start.

        It makes the pulls of both sides on b equal,
        balance sigmoid(-p - b) = (1 - balance) (C - 1) sigmoid(q + b),
        with p and q the scores of target and other classes: a quadratic equation in exp(b).
        """
        middle = 2 * math.pow(0.5, self.t) - 1
        p, q = self.s * (middle - self.m), self.s * (middle + self.m)
        odds = (1 - self.balance) * max(num_classes - 1, 1) / self.balance
        # odds e^(p+q) v^2 + (odds - 1) e^q v - 1 = 0 with v = e^b; u = e^q v stays in range. Of the two forms
        # of the positive root, the one without cancellation.
        gap, half = math.exp(p - q), (odds - 1) / 2
        root = math.hypot(half, math.sqrt(odds * gap))
        u = 1 / (half + root) if half > 0 else (root - half) / (odds * gap)
        return math.log(u) - q

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"m={self.m}, s={self.s}, t={self.t}, balance={self.balance}, gradient={self.gradient!r}"
