# %% folder
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
for i, (image, label) in enumerate(zip(digits.images[:600], digits.target, strict=False)):
    folder = Path("images") / str(label)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image * 15).astype("uint8")).save(folder / f"{i}.png")
# !luce fit images -o images.luce --C 0.01

# %% predict
# !luce predict images.luce images --no-proba | head -4

# %% templates
import luce
from luce.plot import TemplateDisplay

TemplateDisplay.from_estimator(luce.load("images.luce")).plot()
