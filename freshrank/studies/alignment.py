"""Text-image alignment on real photos: CameNN beside FashionBERT (the paper's Table 2), on the Grocery Store data set.

Models learn which photos and texts belong together on the photos of `train`, and are measured on those of `val`, with
negatives of another product, drawn from all or from the same coarse class. A second training leaves some products out
altogether and is measured on these alone: a text that was seen in training tells less than one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from features.content.encode import encode_items, encoder_hash
from features.content.hash import image_sha, text_sha
from features.layout import Layout
from features.settings import ContentSettings
from freshrank.studies.grocery import Groceries, Photo
from trainer.runtime.models.batch import ContentBatch
from trainer.runtime.models.camenn import CameNN
from trainer.runtime.models.fashionbert import FashionBERT
from trainer.runtime.models.layers.alignment import accuracy, alignment_pairs, diagonal_contrast, similarity
from trainer.runtime.models.registry import build
from trainer.runtime.models.schema import Schema
from trainer.tokens import TokenStore

Model = CameNN | FashionBERT
MODELS = ("camenn", "fashionbert")
DRAWS = 10  # derangements that an accuracy is averaged over
BATCH = 64  # photos a step, CameNN's and FashionBERT's default of pairs


@dataclass(frozen=True)
class AlignmentRow:
    """What one trained model reached.

    Args:
        model: Its name.
        trained_on: `all` products, or all but the `unseen` that it is measured on.
        negatives: `random` products, or of the same `category`.
        pairs: Pairs measured, both labels, each task.
        ita: Accuracy of ITA.
        tia: Accuracy of TIA.
        contrast: Mean cosine of own text and image less that of others, each modality alone through the encoder.
        seconds: Seconds of training.
    """

    model: str
    trained_on: str
    negatives: str
    pairs: int
    ita: float
    tia: float
    contrast: float
    seconds: float


def encode(groceries: Groceries, settings: ContentSettings, layout: Layout) -> TokenStore:
    """Tokens of all products' texts and all photos; what the stack's store has is not encoded again."""
    settings = replace(settings, image_root=groceries.root)
    items = []
    for photo in (*groceries.train, *groceries.val):
        product = groceries.products[photo.product]
        items.append((product.name, product.description, photo.uri))
    encode_items(items, settings, layout)
    return TokenStore(layout.tokens(encoder_hash(settings)))


def content_of(groceries: Groceries, photos: list[Photo], store: TokenStore) -> ContentBatch:
    """Photos with their products' texts. Keys are the product's: a negative is always of another product."""
    products = [groceries.products[photo.product] for photo in photos]
    texts = store.rows([text_sha(p.name, p.description) for p in products])
    images = store.rows([image_sha(photo.uri) for photo in photos])
    (text, text_len), (image, image_global) = store.gather_text(texts), store.gather_image(images)
    length = torch.from_numpy(text_len.astype(np.int64))
    number = torch.tensor([p.number for p in products])
    return ContentBatch(
        text_ITD=torch.from_numpy(text).float(),
        text_mask_IT=torch.arange(text.shape[1]) < length[:, None],
        image_IPD=torch.from_numpy(image).float(),
        image_mask_I=torch.from_numpy(images >= 0),
        image_global_ID=torch.from_numpy(image_global).float(),
        text_key_I=number,
        image_key_I=number,
        candidate_S=torch.arange(len(photos)),
        history_BL={},
        category_I=torch.tensor([p.coarse + 1 for p in products]),
    )


def study(
    groceries: Groceries,
    store: TokenStore,
    seed: int,
    epochs: int,
    unseen: int,
    say: Callable[[str], None],
    recipe: Mapping[str, object] | None = None,
) -> list[AlignmentRow]:
    """Train and measure both models.

    Args:
        groceries: The data set.
        store: Tokens of all of it.
        seed: Seed of weights, order, negatives and products left out.
        epochs: Passes over the training photos.
        unseen: Products to leave out in the second training; 0 for none.
        say: Gets a line of progress.
        recipe: What to change in both models' recipes.

    Returns:
        A row for each model, training and kind of negatives, where pairs of that kind can be made.
    """
    shuffled = torch.randperm(len(groceries.products), generator=torch.Generator().manual_seed(seed)).tolist()
    hidden = {sorted(groceries.products)[i] for i in shuffled[:unseen]}
    rows = []
    for name in MODELS:
        for trained_on in ("all", "unseen") if unseen else ("all",):
            left_out = hidden if trained_on == "unseen" else set()
            train = [photo for photo in groceries.train if photo.product not in left_out]
            # a product left out has never been seen: its photos of either list may be measured
            val = [photo for photo in groceries.val if photo.product in hidden] if left_out else list(groceries.val)
            if left_out:
                val += [photo for photo in groceries.train if photo.product in hidden]
            began = time.monotonic()
            model = fit(name, content_of(groceries, train, store), store, seed, epochs, recipe)
            seconds = time.monotonic() - began
            held = content_of(groceries, val, store)
            for negatives in ("random", "category"):
                row = measure(model, name, trained_on, negatives, held, seed, seconds)
                if row.pairs:
                    rows.append(row)
                    say(f"{name}, trained on {trained_on}, {negatives} negatives: ITA {row.ita:.4f} TIA {row.tia:.4f}")
    return rows


def fit(
    name: str,
    content: ContentBatch,
    store: TokenStore,
    seed: int,
    epochs: int,
    recipe: Mapping[str, object] | None = None,
) -> Model:
    """A model trained on alignment alone, with the optimiser of its recipe.

    Args:
        name: `camenn` or `fashionbert`.
        content: Photos and texts.
        store: Where they come from, for the widths.
        seed: Seed of weights, order and negatives.
        epochs: Passes over the photos.
        recipe: What to change in the model's recipe.
    """
    torch.manual_seed(seed)
    schema = Schema((), (), store.widths)
    model = build(name, schema, recipe)
    assert isinstance(model, CameNN | FashionBERT)
    o = model.recipe.optimizer
    adam = torch.optim.Adam(model.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), weight_decay=o.weight_decay)
    for _ in range(epochs):
        order = torch.randperm(len(content.image_mask_I))
        for rows in (order[at : at + BATCH] for at in range(0, len(order), BATCH)):
            losses = model.alignment_losses(take(content, rows), torch.arange(len(rows)))
            if not losses:
                continue
            adam.zero_grad()
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            adam.step()
    return model.eval()


def take(content: ContentBatch, rows: torch.Tensor) -> ContentBatch:
    """The content of some photos alone."""
    return ContentBatch(
        content.text_ITD[rows],
        content.text_mask_IT[rows],
        content.image_IPD[rows],
        content.image_mask_I[rows],
        content.image_global_ID[rows],
        content.text_key_I[rows],
        content.image_key_I[rows],
        torch.arange(len(rows)),
        {},
        content.category_I[rows],
    )


@torch.no_grad()
def measure(
    model: Model, name: str, trained_on: str, negatives: str, content: ContentBatch, seed: int, seconds: float
) -> AlignmentRow:
    """Accuracy of both tasks over several draws of negatives, and the contrast of the similarity matrix.

    Args:
        model: The model.
        name: Its name, and
        trained_on: what it was trained on, for the row.
        negatives: `random` or `category`.
        content: Photos and texts to measure on.
        seed: Seed of the draws.
        seconds: Seconds of training, for the row.
    """
    rng = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {"ita": [], "tia": []}
    count = 0
    for _ in range(DRAWS):
        drawn = alignment_pairs(content, None, "category" if negatives == "category" else "random", rng)
        for task, pairs in drawn.items():
            count = len(pairs.label_N)
            if not count:
                continue
            logits = [
                model.align(content, text, image, (task,))[task]
                for text, image in zip(torch.chunk(pairs.text_N, 8), torch.chunk(pairs.image_N, 8), strict=True)
            ]
            found[task].append(accuracy(torch.cat(logits), pairs.label_N))
    ita, tia = (float(np.mean(values)) if values else 0.0 for values in found.values())
    return AlignmentRow(name, trained_on, negatives, count, ita, tia, _contrast(model, content), seconds)


@torch.no_grad()
def _contrast(model: Model, content: ContentBatch) -> float:
    """Diagonal less rest of the similarity of one photo a product with the products' texts."""
    _, first = np.unique(content.text_key_I.numpy(), return_index=True)
    text, image = model.modality_vectors(take(content, torch.from_numpy(first)))
    return diagonal_contrast(similarity(text, image))


def table(rows: list[AlignmentRow]) -> str:
    """Rows of all seeds as Markdown: mean, and standard deviation where there is more than one seed."""
    lines = [
        "| model | trained on | negatives | pairs | ITA accuracy | TIA accuracy | contrast | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row.model, row.trained_on, row.negatives) for row in rows):
        group = [row for row in rows if (row.model, row.trained_on, row.negatives) == key]
        shown = [
            _spread([getattr(row, name) * scale for row in group], digits)
            for name, scale, digits in (("ita", 100, 2), ("tia", 100, 2), ("contrast", 1, 3), ("seconds", 1, 0))
        ]
        lines.append(f"| {' | '.join([*key, str(group[0].pairs), *shown])} |")
    return "\n".join(lines)


def _spread(values: list[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
