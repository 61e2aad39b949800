"""A folder of images with a folder per class, as rows of uint8 pixels."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luce.data.dataset import Batch, Dataset, Layout
from luce.data.streams import reading
from luce.errors import DataFileError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
LONGEST_SIDE = 64  # images of different or larger sizes are brought to at most this many pixels a side
AS_THEY_ARE = 128  # images that all have one size up to this are left alone


def read(folder: str, layout: Layout | None, *, labels: bool) -> Dataset:
    """Read all images; each folder's name is the class of the images in it (and in its sub-folders).

    Images of one size up to 128 pixels a side keep it; others are resized to their most frequent shape with a
    longer side of at most 64. They are grey if all files are, otherwise colour.
    """
    root = Path(folder)
    files = image_files(root)
    if not files:
        raise DataFileError(
            f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))}); one folder per class is expected"
        )
    classes = [file.relative_to(root).parts[0] for file in files]
    loose = [file for file in files if file.parent == root]
    if labels and loose:
        raise DataFileError(
            f"{loose[0]}: lies beside the class folders; move it into the folder of its class"
        )
    shape, notes = (layout.image_shape, ()) if layout else _common_shape(files)
    if shape is None:
        raise DataFileError(f"{folder}: holds images, but the model was not fitted on images")
    digest = hashlib.sha256()
    X = np.empty((len(files), *shape), np.uint8)
    for i, file in enumerate(files):
        X[i] = _pixels(file, shape)
        digest.update(file.relative_to(root).as_posix().encode(errors="surrogateescape") + b"\0")
        with reading(str(file)):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    y = np.array(classes, dtype=object) if labels else None
    found = layout or Layout("images", int(np.prod(shape)), image_shape=shape)
    return Dataset(X, y, found, folder, f"sha256:{digest.hexdigest()}", notes)


def batches(path: str, layout: Layout, rows: int) -> Iterator[Batch]:
    """Yield the images of a folder, or one image, with their names, in the order of the names."""
    root = Path(path)
    files = image_files(root) if root.is_dir() else [root]
    if not files:
        raise DataFileError(f"{path}: holds no images ({', '.join(sorted(SUFFIXES))})")
    if layout.image_shape is None:
        raise DataFileError(f"{path}: holds images, but the model was not fitted on images")
    for start in range(0, len(files), rows):
        some = files[start : start + rows]
        X = np.stack([_pixels(file, layout.image_shape) for file in some])
        names = [file.relative_to(root).as_posix() if file != root else file.name for file in some]
        yield Batch(X, tuple(names))


def image_files(root: Path) -> list[Path]:
    """Return the image files in a folder and below, sorted; hidden ones are left out."""
    return sorted(
        file
        for file in root.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    )


def _common_shape(files: Sequence[Path]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for file in files:
        with _opened(file) as image:
            sizes[image.height, image.width] += 1
            grey = grey and image.mode in ("1", "L", "I;16", "I", "F")
    height, width = sizes.most_common(1)[0][0]
    keep = len(sizes) == 1 and max(height, width) <= AS_THEY_ARE
    notes: tuple[str, ...] = ()
    if not keep:
        scale = min(1.0, LONGEST_SIDE / max(height, width))
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        changed = len(files) - sizes[height, width]
        notes = (f"{changed:,} of {len(files):,} images are resized to {width} x {height} pixels",)
    return ((height, width) if grey else (height, width, 3)), notes


def _pixels(file: Path, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """One image as uint8 of the given shape, resized where its size differs."""
    height, width = shape[:2]
    with _opened(file) as image, reading(str(file)):
        # Sixteen-bit grey is scaled, because Pillow's conversion would clip it.
        if image.mode.startswith("I"):
            image = image.point(lambda v: v / 256).convert("L")
        image = image.convert("L" if len(shape) == 2 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height))
        return np.asarray(image, np.uint8)


def _opened(file: Path) -> Any:
    from PIL import Image

    with reading(str(file)), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(file)
