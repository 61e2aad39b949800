"""Softmax against large margins on Fashion-MNIST: test errors, and pictures of features two numbers wide.

python examples/margins/petals.py                       # the files of Debian's dataset-fashion-mnist
python examples/margins/petals.py FOLDER --seeds 5      # or a folder with MNIST's four IDX files
python examples/margins/petals.py --quick               # a minute's look, on a part of the data
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from luce.data.sources import read
from luce.nn import MarginLoss
from luce.nn.margins import Anneal, ArcFace, CosFace, LSoftmax, Margin

DEBIAN = "/usr/share/datasets/fashion-mnist"
NAMES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
BATCH = 128
WIDTH = 64  # of the features whose errors are counted; the picture's are 2 wide


class Data(NamedTuple):
    images: Tensor  # (N, 1, H, W), standardised
    labels: Tensor  # (N,)


def load(folder: str, limit: int | None) -> tuple[Data, Data]:
    """Training and test data; `limit` keeps the first so many of each."""
    train = read(folder)
    if train.held_out is None:
        raise SystemExit(f"{folder}: holds no test files (t10k-images-idx3-ubyte and its labels)")
    pixels = torch.tensor(train.X[:limit]).float()
    mean, sd = pixels.mean(), pixels.std()

    def data(X: Tensor, y: Tensor) -> Data:
        return Data(((X - mean) / sd)[:, None], y.long())

    test = train.held_out
    return (
        data(pixels, torch.tensor(train.y[:limit])),
        data(torch.tensor(test.X[:limit]).float(), torch.tensor(test.y[:limit])),
    )


def margins(steps: int) -> dict[str, Callable[[], Margin | None]]:
    """What is compared. L-Softmax begins near the plain softmax; its lambda is down to 5 halfway through."""
    anneal = Anneal(base=100.0, gamma=38 / steps, minimum=5.0)
    return {
        "softmax": lambda: None,
        "L-Softmax m=2": lambda: LSoftmax(2, anneal),
        "L-Softmax m=3": lambda: LSoftmax(3, anneal),
        "L-Softmax m=4": lambda: LSoftmax(4, anneal),
        "CosFace m=0.2": lambda: CosFace(0.2, s=16.0),
        "ArcFace m=0.2": lambda: ArcFace(0.2, s=16.0),
    }


def network(width: int, side: int) -> nn.Module:
    """Three strided convolutions and a linear layer, which gives the features."""
    channels, layers = [1, 16, 32, 64], list[nn.Module]()
    for before, after in itertools.pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        side = (side + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side**2, width))


def train(
    data: Data, margin: Margin | None, width: int, seed: int, epochs: int
) -> tuple[nn.Module, MarginLoss]:
    """Network and head; the same seed gives the same start and the same batches, whatever the margin."""
    torch.manual_seed(seed)
    net = network(width, data.images.shape[-1])
    head = MarginLoss(width, int(data.labels.max()) + 1, margin)
    steps = epochs * -(-len(data.labels) // BATCH)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels)).split(BATCH):
            loss = head(net(data.images[batch]), data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval(), head.eval()


@torch.no_grad()
def features(net: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([net(part) for part in images.split(2000)])


def error(net: nn.Module, head: MarginLoss, data: Data) -> float:
    """Share of wrong answers, in per cent."""
    return 100 * float((head.predict(features(net, data.images)) != data.labels).float().mean())


def draw(pictures: dict[str, tuple[Tensor, Tensor, float]], labels: Tensor, path: str) -> None:
    """One panel per margin: the test features, and the directions of the class vectors."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, -(-len(pictures) // 2), figsize=(13, 9), layout="constrained")
    for axis, (name, (points, vectors, wrong)) in zip(axes.flat, pictures.items(), strict=False):
        dots = axis.scatter(*points.T, c=labels, cmap="tab10", s=3, alpha=0.5, linewidths=0, rasterized=True)
        reach = float(points.norm(dim=1).quantile(0.995))
        for x, y in reach * nn.functional.normalize(vectors):
            axis.plot([0, x], [0, y], color="black", linewidth=0.6)
        axis.set(title=f"{name}: {wrong:.1f} % wrong", aspect="equal", xticks=[], yticks=[])
        axis.set(xlim=(-1.05 * reach, 1.05 * reach), ylim=(-1.05 * reach, 1.05 * reach))
    handles, _ = dots.legend_elements(num=None)
    figure.legend(handles, NAMES[: len(handles)], loc="outside lower center", ncols=len(handles))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default=DEBIAN, help="where MNIST's four files are")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per margin (default 3)")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the data (default 3)")
    parser.add_argument("--out", default="petals.png", help="the picture (default petals.png)")
    parser.add_argument("--quick", action="store_true", help="4000 images, 1 seed, 2 epochs")
    args = parser.parse_args(arguments)
    if args.quick:
        args.seeds, args.epochs = 1, 2
    data, test = load(args.folder, 4000 if args.quick else None)

    print(f"{len(data.labels)} images, {args.epochs} epochs, {args.seeds} seeds; test error in per cent")
    print(f"{'':15}{f'{WIDTH} features':>16}{'2 features':>12}{'seconds':>9}")
    pictures = {}
    for name, margin in margins(args.epochs * -(-len(data.labels) // BATCH)).items():
        begin = time.perf_counter()
        errors = [error(*train(data, margin(), WIDTH, seed, args.epochs), test) for seed in range(args.seeds)]
        net, head = train(data, margin(), 2, 0, args.epochs)
        flat = error(net, head, test)
        pictures[name] = (features(net, test.images), head.weight.detach(), flat)
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        table = f"{statistics.mean(errors):.2f}{spread}"
        print(f"{name:15}{table:>16}{flat:12.2f}{time.perf_counter() - begin:9.0f}", flush=True)
    draw(pictures, test.labels, args.out)
    print(f"drawn to {args.out}")


if __name__ == "__main__":
    main()
