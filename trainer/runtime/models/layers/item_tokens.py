"""Tokens of an item from its frozen text and image tokens, CameNN's Eq. 1 and 2, whole or reduced.

Shape suffixes: I items, N items put together from a text and an image, T text tokens, P patches, L tokens of an item,
D width of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from trainer.runtime.models.batch import ContentBatch
from trainer.runtime.models.layers.content import normal
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.schema import ContentWidths

Form = Literal["tokens", "modalities", "item"]


@dataclass(frozen=True)
class Modalities:
    """Embedded text and image of items.

    Args:
        text_ITD: Text tokens.
        text_mask_IT: True where there is one.
        image_IPD: Patches.
        image_mask_IP: True where there is one.
    """

    text_ITD: Tensor
    text_mask_IT: Tensor
    image_IPD: Tensor
    image_mask_IP: Tensor


class ItemTokens(nn.Module):
    """`[cls, txt_1 … txt_T, sep, img_1 … img_P]`: linear map of the frozen token plus position plus segment.

    Forms: `tokens` keeps all tokens; `modalities` keeps `[cls, mean of txt, sep, mean of img]`; `item` keeps one token,
    the sum of cls and of the means that exist. Frozen tokens pass a layer normalisation without parameters first, since
    encoders differ in scale.

    Args:
        content: Widths of the frozen tokens, or None: an item is its [CLS] then.
        width: Width of tokens (n_E).
    """

    def __init__(self, content: ContentWidths | None, width: int) -> None:
        super().__init__()
        self.content = content
        self.cls = vectors(1, width)
        if content is not None:
            self.text = nn.Linear(content.text_width, width)
            self.image = nn.Linear(content.image_width, width)
            self.text_position = vectors(content.text_tokens, width)
            self.image_position = vectors(content.patches, width)
            self.text_segment = vectors(1, width)
            self.image_segment = vectors(1, width)
            self.sep = vectors(1, width)

    def embed(self, content: ContentBatch, form: Form, items_N: Tensor | None = None) -> Modalities:
        """Text (Eq. 1) and image (Eq. 2) of items; means of them where the form is reduced.

        Args:
            content: Content of the batch.
            form: Form.
            items_N: Items wanted; all by default.
        """
        text_mask_IT, image_mask_I = content.text_mask_IT, content.image_mask_I
        text_ITD, image_IPD = content.text_ITD, content.image_IPD
        if items_N is not None:
            text_mask_IT, image_mask_I = text_mask_IT[items_N], image_mask_I[items_N]
            text_ITD, image_IPD = text_ITD[items_N], image_IPD[items_N]
        # text tokens stand at the front: cut the columns that no item reaches
        used = int(text_mask_IT.any(dim=0).sum())
        text_mask_IT = text_mask_IT[:, :used]
        text_ITD, image_IPD = normal(text_ITD[:, :used]), normal(image_IPD)
        image_mask_IP = image_mask_I[:, None].expand(image_IPD.shape[:2])
        text_place = self.text_position[:used].expand(len(text_mask_IT), -1, -1)
        image_place = self.image_position.expand(len(image_mask_I), -1, -1)
        if form != "tokens":  # the maps are linear: the mean goes first, and they run once an item
            text_place, image_place = _mean(text_place, text_mask_IT), _mean(image_place, image_mask_IP)
            text_ITD, image_IPD = _mean(text_ITD, text_mask_IT), _mean(image_IPD, image_mask_IP)
            text_mask_IT, image_mask_IP = text_mask_IT.any(dim=1, keepdim=True), image_mask_I[:, None]
        text_ITD = self.text(text_ITD) + text_place + self.text_segment
        image_IPD = self.image(image_IPD) + image_place + self.image_segment
        return Modalities(text_ITD, text_mask_IT, image_IPD, image_mask_IP)

    def together(self, found: Modalities, text_N: Tensor, image_N: Tensor) -> tuple[Tensor, Tensor, slice, slice]:
        """Items made of one item's text and one item's image, as `[cls, txt, sep, img]`.

        Args:
            found: The items' text and image.
            text_N: Whose text.
            image_N: Whose image.

        Returns:
            Tokens [N, L, D], their mask, and where text and image lie.
        """
        n, texts = len(text_N), found.text_ITD.shape[1]
        one = torch.ones(n, 1, dtype=torch.bool, device=text_N.device)
        tokens = torch.cat(
            [self.cls.expand(n, 1, -1), found.text_ITD[text_N], self.sep.expand(n, 1, -1), found.image_IPD[image_N]],
            dim=1,
        )
        mask = torch.cat([one, found.text_mask_IT[text_N], one, found.image_mask_IP[image_N]], dim=1)
        return tokens, mask, slice(1, 1 + texts), slice(2 + texts, tokens.shape[1])

    def bare(self, n: int) -> tuple[Tensor, Tensor, slice, slice]:
        """As `together`, for data without content: [CLS] alone."""
        mask = torch.ones(n, 1, dtype=torch.bool, device=self.cls.device)
        return self.cls.expand(n, 1, -1), mask, slice(1, 1), slice(1, 1)

    def summed(self, found: Modalities) -> Tensor:
        """One token an item, [I, D]: cls plus the means of text and image that exist (form `item`)."""
        text_ID = found.text_ITD[:, 0] * found.text_mask_IT[:, :1]
        image_ID = found.image_IPD[:, 0] * found.image_mask_IP[:, :1]
        return self.cls + text_ID + image_ID


def vectors(n: int, width: int) -> nn.Parameter:
    """Learned vectors, [n, width], begun as BERT begins its own."""
    return nn.Parameter(torch.randn(n, width) * 0.02)


def _mean(x_ILD: Tensor, mask_IL: Tensor) -> Tensor:
    return masked_mean(x_ILD, mask_IL)[:, None]
