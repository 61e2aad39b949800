"""One class in ten: what class weights do to recall and to probabilities, and how to have both.

python examples/imbalance.py [PICTURE]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, precision_score, recall_score
from sklearn.model_selection import cross_val_predict

import luce


def main(picture, quick=False):
    X, digit = load_digits(return_X_y=True)
    y = (digit == 8).astype(int)  # 174 of 1797
    X = X[:, ::3]  # a third of the pixels: a task with doubt in it
    folds = 3 if quick else 10

    def held_out(class_weight):
        model = luce.SoftmaxClassifier(C=0.01, class_weight=class_weight)
        return cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]

    plain, balanced = held_out(None), held_out("balanced")
    # Balanced weights multiply the odds by the ratio of the classes; dividing by it takes that back.
    odds = balanced / (1 - balanced) * y.mean() / (1 - y.mean())
    ways = {"no weights": plain, "balanced": balanced, "balanced, odds corrected": odds / (1 + odds)}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    print(f"{'':26} recall  precision  log loss   mean p (true share {y.mean():.3f})")
    for name, p in ways.items():
        recall, precision = recall_score(y, p > 0.5), precision_score(y, p > 0.5)
        print(f"{name:26} {recall:6.2f} {precision:10.2f} {log_loss(y, p):9.3f} {p.mean():8.3f}")
        thresholds = np.unique(np.quantile(p, np.linspace(0, 0.999, 200)))
        recalls = [recall_score(y, p >= t) for t in thresholds]
        axes[0].plot(recalls, [precision_score(y, p >= t) for t in thresholds], label=name)
        order = np.array_split(np.argsort(p), 12)
        axes[1].plot([p[part].mean() for part in order], [y[part].mean() for part in order], "o-", label=name)
    axes[0].set(xlabel="recall", ylabel="precision", title="ranking: much the same")
    axes[1].plot([0, 1], [0, 1], ":", color="gray")
    axes[1].set(xlabel="predicted probability", ylabel="observed share", title="probabilities: not at all")
    axes[1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
    print(f"drawn to {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", nargs="?", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--quick", action="store_true", help="fewer folds")
    main(**vars(parser.parse_args()))
