# %% replace
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import luce

X, y = load_breast_cancer(return_X_y=True)
theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1.0))
ours = make_pipeline(StandardScaler(), luce.SoftmaxClassifier(C=1.0))
print(cross_val_score(theirs, X, y).round(4))
print(cross_val_score(ours, X, y).round(4))

# %% gap
clf = luce.SoftmaxClassifier().fit(X, y)  # raw features
print(clf.status_, clf.loss_, clf.gap_)

# %% grid
from sklearn.model_selection import GridSearchCV

grid = GridSearchCV(ours, {"softmaxclassifier__C": [0.01, 0.1, 1, 10]}).fit(X, y)
shared = luce.SoftmaxClassifierCV([0.01, 0.1, 1, 10]).fit(StandardScaler().fit_transform(X), y)
print(grid.best_params_, shared.C_)

# %% stream
stream = luce.SoftmaxClassifier()
scaled = StandardScaler().fit_transform(X)
for start in range(0, len(X), 100):
    stream.partial_fit(scaled[start : start + 100], y[start : start + 100], classes=[0, 1])
print(stream.score(scaled, y))
