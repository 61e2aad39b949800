"""Probing embeddings: a network learns even from odd; what do its layers know about which digit it is?

python examples/probe.py [PICTURE]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import luce


def layers(network, X):
    """Yield the input and what each hidden layer makes of it."""
    yield X
    for W, b in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        X = np.maximum(0, X @ W + b)
        yield X


def probe(network, X, X_test, y, y_test):
    """The share that a softmax classifier gets right on each layer, C chosen by leave-one-out."""
    scores = []
    for Z, Z_test in zip(layers(network, X), layers(network, X_test), strict=True):
        model = luce.SoftmaxClassifierCV(np.logspace(-3, 2, 6), cv="loo", scoring="neg_log_loss").fit(Z, y)
        scores.append(np.mean(model.predict(Z_test) == y_test))
    return scores


def main(picture, quick=False):
    X, digit = load_digits(return_X_y=True)
    split = train_test_split(X / 16, digit, test_size=0.5, random_state=0, stratify=digit)
    X, X_test, digit, digit_test = split
    epochs = 20 if quick else 300
    network = MLPClassifier((64, 32, 16, 8), early_stopping=True, max_iter=epochs, random_state=0)
    network.fit(X, digit % 2)
    print("probe on          ", *(f"{name:>8}" for name in ("pixels", *network.hidden_layer_sizes)))
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, y, y_test in (("even or odd", digit % 2, digit_test % 2), ("which digit", digit, digit_test)):
        scores = probe(network, X, X_test, y, y_test)
        print(f"{name:18}", *(f"{score:8.3f}" for score in scores))
        axis.plot(scores, "o-", label=name)
    places = range(1 + len(network.hidden_layer_sizes))
    axis.set_xticks(places, ["pixels", *(f"{n} units" for n in network.hidden_layer_sizes)])
    axis.set(ylabel="held-out accuracy of the probe", title="A network trained on even or odd only")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(picture, dpi=110)
    print(f"drawn to {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", nargs="?", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--quick", action="store_true", help="train the network for a moment only")
    main(**vars(parser.parse_args()))
