"""A trained student that turns images into features: what `pgfl.load` gives."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field, ValidationError

from pgfl.datasets.images import loaded_batches, read_image, resized, upright_rgb
from pgfl.errors import UserError
from pgfl.networks.saved import load_student, read_metadata
from pgfl.nn.settings import ModelSettings
from pgfl.retrieval.embed import batch_features
from pgfl.runtime.devices import pick_device
from pgfl.runtime.files import file_hash
from pgfl.runtime.messages import explain, shown_key
from pgfl.runtime.settings import Settings

AnyImage = str | os.PathLike[str] | Image.Image | np.ndarray
"""A path, a Pillow image, or uint8 (H, W, 3), RGB; of any size."""

PRECISIONS = ("fp32", "half", "auto")
DEVICES = ("cpu", "cuda")
SHORTEST = 1e-12
"""Features are divided by their length, or by this where they are shorter."""
Mean = Annotated[float, Field(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(ge=1e-6, le=1e6)]
"""Of pixels; beyond these bounds features would be infinite or NaN."""


class Preprocessing(Settings):
    """What a student's file says about its input."""

    height: int
    width: int
    colours: Literal["RGB"]
    range: tuple[int, int]
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]


def load(
    path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    precision: str = "fp32",
) -> "Embedder":
    """A student from its file; nothing else is needed, and no code in the file is run.

    Args:
        path: a `model.safetensors` that training has written.
        device: `cpu`, `cuda`, `cuda:1` ...; None takes a GPU where there is one.
        precision: `fp32`, the precision of evaluation; `half` is fp16 on a GPU and bf16 on a
            processor; `auto` is half on a GPU and fp32 elsewhere.

    Raises:
        UserError: no such file, not a student, or no such device or precision.
    """
    return Embedder(Path(path), device, precision)


class Embedder:
    """A student, ready to embed images."""

    def __init__(self, path: Path, device: str | torch.device | None, precision: str):
        """Read a student's file; see `load`."""
        if precision not in PRECISIONS:
            raise UserError(f"no precision {precision!r}; known: {', '.join(PRECISIONS)}")
        self.network, self.settings = load_student(path)
        """The module itself, from uint8 (N, height, width, 3) to (N, channels)."""
        self.preprocessing = _preprocessing(path, self.settings)
        """As the file states it: height, width, colours, range, mean, std."""
        self.height: int = self.preprocessing["height"]
        self.width: int = self.preprocessing["width"]
        self.channels = self.network.channels
        self.precision = precision
        self.sha256 = file_hash(path)
        """Of the file: features of two files are never comparable."""
        for name in ("mean", "std"):
            buffer = getattr(self.network.normalize, name)
            buffer.copy_(torch.tensor(self.preprocessing[name]).view_as(buffer))
        self.device = _device(device)
        self.network.to(self.device)

    def embed(
        self,
        images: Sequence[AnyImage] | np.ndarray | AnyImage,
        batch_size: int = 64,
        progress: bool = False,
    ) -> np.ndarray:
        """The matching feature of each image, f_G after the BNNeck, of length one.

        Before the division by their length, features equal those of evaluation to the bit (in
        fp32, with the same batches on the same device).

        Args:
            images: paths, Pillow images and uint8 (H, W, 3) RGB arrays, mixed as you like, of any
                sizes; uint8 (N, H, W, 3); or a single image. Every image is one person's crop.
            batch_size: images at a time.
            progress: whether a progress line is shown on stderr.

        Returns:
            float32 (N, channels). The dot product of two rows is their cosine similarity.

        Raises:
            UserError: a file cannot be read as an image, or a Pillow image cannot be decoded.
            TypeError: something that is no image, or of another type than uint8; a Pillow image
                of mode I or F, whose numbers have no known range.
            ValueError: an array of another shape, or a batch size below one.
        """
        given = _listed(images)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")

        def prepared(place: int) -> np.ndarray:
            return self.prepare(given[place], f"images[{place}]")

        what = "embedding" if progress else ""
        batches = loaded_batches(range(len(given)), prepared, batch_size, what)
        features = np.empty((len(given), self.channels), dtype=np.float32)
        start = 0
        arrays = (np.stack(batch) for _, batch in batches)
        for found in batch_features(self.network, arrays, precision=self.precision):
            features[start : start + len(found)] = found
            start += len(found)
        return unit_length(features)

    def prepare(self, image: AnyImage, name: str = "image") -> np.ndarray:
        """The network's input for an image: uint8 (height, width, 3), RGB.

        Args:
            image: see `embed`.
            name: what messages call it.

        Raises:
            UserError, TypeError, ValueError: as `embed`.
        """
        size = self.height, self.width
        if isinstance(image, str | os.PathLike):
            return read_image(Path(image), size)
        return resized(_pixels(image, name), *size)


def unit_length(features: np.ndarray) -> np.ndarray:
    """Divide each row by its length, in place; a row of zeros stays one."""
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), SHORTEST)
    return features


def _listed(images: Sequence[AnyImage] | np.ndarray | AnyImage) -> Sequence[AnyImage]:
    single = str | os.PathLike | Image.Image
    if isinstance(images, single) or (isinstance(images, np.ndarray) and images.ndim == 3):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ValueError(f"images must be (N, H, W, 3) or (H, W, 3), got {images.shape}")
    return images if isinstance(images, np.ndarray) else list(images)


def _pixels(image: Image.Image | np.ndarray, name: str) -> np.ndarray:
    """uint8 (H, W, 3), RGB."""
    if isinstance(image, Image.Image):
        image = _decoded(image, name)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type(image)
        raise TypeError(f"{name}: neither a path, a Pillow image nor a uint8 array, but {kind}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{name}: must be (H, W, 3), RGB, got {image.shape}")
    return np.ascontiguousarray(image)


def _decoded(image: Image.Image, name: str) -> np.ndarray:
    """A Pillow image as if it had been read from its file."""
    if image.mode in ("I", "F"):
        raise TypeError(f"{name}: a Pillow image of mode {image.mode}; scale it to uint8 first")
    try:
        return upright_rgb(image)
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise UserError(f"{name}: cannot be decoded ({shown_key(error)})") from None


def _preprocessing(path: Path, settings: ModelSettings) -> dict[str, Any]:
    """What the file says about its input, checked to be something that is done here."""
    try:
        stated = json.loads(read_metadata(path)["preprocessing"])
    except (KeyError, ValueError, RecursionError):
        raise UserError(f"{path}: its metadata do not say how images are prepared") from None
    unknown = f"{path}: needs images prepared in a way that this version does not know"
    try:
        known = Preprocessing.model_validate(stated)
    except ValidationError as error:
        raise UserError(f"{unknown} ({'; '.join(explain(Preprocessing, error))})") from None
    found = known.height, known.width, known.range
    done = settings.height, settings.width, (0, 255)
    if found != done:
        raise UserError(f"{unknown} (height, width and range are {found}, not {done})")
    return known.model_dump(mode="json")


def _device(wanted: str | torch.device | None) -> torch.device:
    if wanted is None:
        return pick_device()
    try:
        device = torch.device(wanted)
        if device.type not in DEVICES:
            raise RuntimeError(f"known: {', '.join(DEVICES)}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).splitlines()[0]
        raise UserError(f"device {wanted}: cannot be used here ({reason})") from None
    return device
