"""What a model without a view of text and image may be told about them: one pooled vector an item."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from trainer.runtime.models.batch import ContentBatch
from trainer.runtime.models.layers.masked import masked_mean
from trainer.runtime.models.schema import ContentWidths


def normal(x: Tensor) -> Tensor:
    """Frozen vectors at one scale, whatever the encoder: layer normalisation without parameters."""
    return functional.layer_norm(x, x.shape[-1:])


class PooledContent(nn.Module):
    """One vector an item: projected masked mean of its text tokens plus its projected whole-image vector.

    Both inputs pass a layer normalisation without parameters first, since encoders differ in scale. A missing text or
    image adds nothing.

    Args:
        content: Widths of the tokens.
        width: Width D of the result.
    """

    def __init__(self, content: ContentWidths, width: int) -> None:
        super().__init__()
        self.text = nn.Linear(content.text_width, width, bias=False)
        self.image = nn.Linear(content.image_width, width, bias=False)
        for layer in (self.text, self.image):
            nn.init.normal_(layer.weight, std=0.1 * layer.in_features**-0.5)

    def forward(self, content: ContentBatch) -> Tensor:
        """Vectors of the distinct items, [I, D]."""
        text_ID = masked_mean(content.text_ITD, content.text_mask_IT)
        has_text_I1 = content.text_mask_IT.any(1, keepdim=True)
        image_ID = content.image_global_ID
        normal_text = normal(text_ID) * has_text_I1
        normal_image = normal(image_ID) * content.image_mask_I.unsqueeze(1)
        out_ID: Tensor = self.text(normal_text) + self.image(normal_image)
        return out_ID
