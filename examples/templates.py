"""What a softmax classifier looks for in an image: one template per class, for digits and Fashion-MNIST.

python examples/templates.py [PICTURE]    # Fashion-MNIST: apt-get install dataset-fashion-mnist
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

import luce
from luce.data.sources import read

FASHION = Path("/usr/share/datasets/fashion-mnist")
NAMES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]


def data(quick):
    """Yield name, images (N, H, W) from 0 to 1, labels, names of the classes, and C."""
    digits = load_digits()
    yield "digits", digits.images / 16, digits.target, digits.target_names, 0.1
    if FASHION.exists():
        fashion = read(str(FASHION))
        some = slice(1000 if quick else 20000)
        yield "Fashion-MNIST", np.asarray(fashion.X[some]) / 255, fashion.y[some].astype(int), NAMES, 1e-3
    else:
        print("Fashion-MNIST is left out: apt-get install dataset-fashion-mnist", file=sys.stderr)


def main(picture, quick=False):
    rows = list(data(quick))
    figure, axes = plt.subplots(len(rows), 10, figsize=(11, 1.5 * len(rows)), squeeze=False)
    for row, (name, images, labels, names, C) in zip(axes, rows, strict=True):
        X = images.reshape(len(images), -1).astype(np.float32)
        model = luce.SoftmaxClassifier(C=C).fit(X, labels)
        right, gap = model.score(X, labels), model.gap_ / model.loss_
        print(f"{name}: {right:.3f} of the {len(X)} images it has seen right, relative gap {gap:.0e}")
        for axis, weights, title in zip(row, model.coef_, names, strict=True):
            most = np.abs(weights).max()
            axis.imshow(weights.reshape(images.shape[1:]), cmap="RdBu", vmin=-most, vmax=most)
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    figure.savefig(picture, dpi=110, bbox_inches="tight")
    print(f"drawn to {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", nargs="?", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--quick", action="store_true", help="less data")
    main(**vars(parser.parse_args()))
