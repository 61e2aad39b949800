"""The path of C: which measurements of a tumour enter first, and how many are worth having.

python examples/c_path.py [PICTURE]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

import luce
from luce.plot import PathDisplay


def main(picture, quick=False):
    data = load_breast_cancer()
    X = StandardScaler().fit_transform(data.data)
    Cs = np.logspace(-3, 1, 7 if quick else 25)
    model = luce.SoftmaxClassifierCV(Cs, cv=3 if quick else 5, l1_ratio=1.0, scoring="neg_log_loss")
    model.fit(X, data.target)
    weights = model.path_.coefs[:, 0]  # (n, D); positive weights speak for benign
    used = (weights != 0).sum(axis=1)
    chosen = int(np.argmin(abs(Cs - model.C_)))
    print(f"cross-validation takes C = {model.C_:.2g}, which uses {used[chosen]} of {X.shape[1]} features")
    first = np.argsort(-(weights != 0).sum(axis=0), kind="stable")[:6]
    print("first to enter:", ", ".join(data.feature_names[first]))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    axes[0].semilogx(Cs, weights, color="lightgray", lw=1)
    for d in first:
        axes[0].semilogx(Cs, weights[:, d], label=data.feature_names[d])
    axes[0].axvline(model.C_, color="black", ls=":", lw=1)
    axes[0].set(xlabel="C", ylabel="weight", title="L1 path, the first six to enter")
    axes[0].legend(fontsize=7, frameon=False)
    PathDisplay.from_estimator(model).plot(axes[1])
    figure.savefig(picture, dpi=110)
    print(f"drawn to {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", nargs="?", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--quick", action="store_true", help="a coarse path")
    main(**vars(parser.parse_args()))
