"""Pairs of texts and images that belong together or not, and what is measured on them.

Negatives are derangements: every text and every image of the positives occurs once in the negatives too, so that
neither modality alone tells a pair's label. The two listings of a negative differ in the keys of both modalities.

Shape suffixes: N items, I items of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainer.runtime.models.batch import ContentBatch


def complete_items(content: ContentBatch, items: Tensor | None = None) -> Tensor:
    """Items that have both a text and an image.

    Args:
        content: Content of the batch.
        items: Items to choose from; all by default.

    Returns:
        Their indices, ascending, each once.
    """
    both_I = content.text_mask_IT.any(dim=1) & content.image_mask_I
    if items is not None:
        asked_I = torch.zeros_like(both_I)
        asked_I[items] = True
        both_I = both_I & asked_I
    return both_I.nonzero().flatten()


def some_complete(content: ContentBatch, limit: int) -> Tensor:
    """At most so many of the candidates' items that have both a text and an image, at random, each once."""
    items = complete_items(content, content.candidate_S)
    return items[torch.randperm(len(items))[:limit].to(items.device)]


def derangement(
    text_key_N: Tensor, image_key_N: Tensor, group_N: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """A random partner for each item, each item being the partner of one, differing in text and in image.

    Items for which no partner was found are their own partner: leave them out, positives and negatives alike.

    Args:
        text_key_N: Differs where texts differ.
        image_key_N: Differs where images differ.
        group_N: Partners must be of the same group, such as a category; any partner by default.
        generator: Source of randomness; torch's own by default.

    Returns:
        Partners [N], a permutation.

    Example:
        >>> derangement(torch.tensor([1, 2]), torch.tensor([1, 2])).tolist()
        [1, 0]
    """
    n = len(text_key_N)
    text, image = text_key_N.cpu(), image_key_N.cpu()
    group = torch.zeros(n, dtype=torch.long) if group_N is None else group_N.cpu()

    def fits(a: Tensor, b: Tensor) -> Tensor:
        return (text[a] != text[b]) & (image[a] != image[b]) & (group[a] == group[b])

    every = torch.arange(n)
    partner = _shuffled_within(group, generator)
    for i in (~fits(every, partner)).nonzero().flatten().tolist():
        if bool(fits(every[i], partner[i])):
            continue  # mended by the swap of another
        good = fits(every[i], partner) & fits(every, partner[i])
        choices = good.nonzero().flatten()
        if len(choices):
            j = int(choices[torch.randint(len(choices), (1,), generator=generator)])
            partner[[i, j]] = partner[[j, i]]
    _drop_unfit(partner, fits)
    return partner.to(text_key_N.device)


def _shuffled_within(group: Tensor, generator: torch.Generator | None) -> Tensor:
    """A random permutation that maps each group to itself."""
    order = torch.randperm(len(group), generator=generator)
    by_group = order[torch.argsort(group[order], stable=True)]
    shuffled = torch.randperm(len(group), generator=generator)
    shuffled = shuffled[torch.argsort(group[shuffled], stable=True)]
    partner = torch.empty_like(by_group)
    partner[by_group] = shuffled
    return partner


def _drop_unfit(partner: Tensor, fits: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Take items whose partner does not fit out of the permutation; who had them as partner gets theirs, if it fits."""
    unfit = (~fits(torch.arange(len(partner)), partner)).nonzero().flatten().tolist()
    while unfit:
        i = unfit.pop()
        follower, before = partner[i].clone(), int((partner == i).nonzero())
        partner[i] = i
        if before != i:
            partner[before] = follower
            if before not in unfit and not bool(fits(torch.tensor(before), follower)):
                unfit.append(before)


def first_place(candidate_S: Tensor, items: int) -> Tensor:
    """The first candidate that is each of I items; 0 where none is.

    Example:
        >>> first_place(torch.tensor([2, 0, 2]), 3).tolist()
        [1, 0, 0]
    """
    places_S = torch.arange(len(candidate_S), device=candidate_S.device)
    place_I = torch.full((items,), len(candidate_S), device=candidate_S.device)
    place_I = place_I.scatter_reduce(0, candidate_S, places_S, reduce="amin")
    return place_I.where(place_I < len(candidate_S), torch.zeros_like(place_I))


@dataclass(frozen=True)
class Pairs:
    """Texts and images put together.

    Args:
        text_N: Item of each text.
        image_N: Item of each image.
        label_N: 1 where they belong together.
    """

    text_N: Tensor
    image_N: Tensor
    label_N: Tensor


def alignment_pairs(
    content: ContentBatch,
    items: Tensor | None = None,
    negatives: Literal["random", "category"] = "random",
    generator: torch.Generator | None = None,
) -> dict[str, Pairs]:
    """As many negatives as positives for both tasks, by derangements.

    ITA's negatives are an item's image with another's text, TIA's an item's text with another's image. Over all items
    both kinds have the same joint distribution: accuracies on them are no independent evidence.

    Args:
        content: Content of the items.
        items: Items to use; all by default. Those without text or image are left out.
        negatives: Partners from all items, or of the same known category.
        generator: Source of randomness.

    Returns:
        `ita` and `tia` → pairs, positives first; empty where no two items can be told apart.
    """
    kept = complete_items(content, items)
    group = None
    if negatives == "category":
        kept = kept[content.category_I[kept] > 0]
        group = content.category_I[kept]
    found = {}
    for task in ("ita", "tia"):
        partner_N = derangement(content.text_key_I[kept], content.image_key_I[kept], group, generator)
        moved = partner_N != torch.arange(len(kept), device=partner_N.device)
        own, other = kept[moved], kept[partner_N[moved]]
        text, image = (other, own) if task == "ita" else (own, other)
        found[task] = Pairs(
            torch.cat([own, text]),
            torch.cat([own, image]),
            torch.cat([torch.ones(len(own)), torch.zeros(len(own))]).to(kept.device),
        )
    return found


def accuracy(logits_N: Tensor, label_N: Tensor) -> float:
    """Share of pairs on the right side of probability one half; the measure of the paper's Table 2."""
    return float(((logits_N > 0) == (label_N > 0.5)).float().mean())


def similarity(text_ID: Tensor, image_ID: Tensor) -> Tensor:
    """Cosine of every image with every text, [images, texts]: the heat maps of Figures 4 and 5."""
    return functional.normalize(image_ID, dim=1) @ functional.normalize(text_ID, dim=1).T


def diagonal_contrast(similarity_II: Tensor) -> float:
    """Mean of the diagonal less the mean of the rest: what has to grow for the diagonal to brighten.

    Example:
        >>> diagonal_contrast(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        0.5
    """
    n = len(similarity_II)
    diagonal = similarity_II.diagonal()
    rest = (similarity_II.sum() - diagonal.sum()) / max(n * (n - 1), 1)
    return float(diagonal.mean() - rest)
