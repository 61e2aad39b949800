# %% data
from pathlib import Path

texts = {
    "greeting": ["good morning to you", "hello my friend", "good evening dear friend", "hello and good day"],
    "farewell": ["good bye my friend", "see you soon", "farewell and good luck", "bye and see you later"],
}
rows = ["message,kind"] + [f"{text},{kind}" for kind, some in texts.items() for text in some]
Path("messages.csv").write_text("\n".join(rows) + "\n")
# !luce fit messages.csv --target kind --text message --test-size 0 -o messages.luce

# %% predict
Path("new.csv").write_text("message\nhello dear\nsee you tomorrow\n")
# !luce predict messages.luce new.csv

# %% python
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import luce
from luce.plot import FeatureDisplay

model = make_pipeline(TfidfVectorizer(), luce.SoftmaxClassifier(C=10))
model.fit([text for some in texts.values() for text in some], [kind for kind in texts for _ in texts[kind]])
FeatureDisplay.from_estimator(model, n_features=8).plot()
