"""What a model is told about its inputs: features, sequences and content, as sizes and names.

Every feature reaches a model embedded. A categorical value is an index into a vocabulary (0 = unknown or missing); a
number is bucketised with edges from the training data and then an index too, except where `kind` is `number`: then its
value multiplies one learned vector, as flat benchmark sets want it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["user", "context", "item", "cross"]


@dataclass(frozen=True)
class ModelFeature:
    """One field.

    Args:
        name: Name of the field, unique in the schema.
        group: Whose field it is. `user` and `context` have one value a request, `item` and `cross` one a candidate.
        table: The vocabulary it is looked up in; fields of one table share their embeddings.
        rows: Rows of that vocabulary, row 0 for unknown or missing included.
        kind: `id` is looked up; `number` multiplies row 1 with the value.
        buckets: Equal-frequency buckets that a number was put into, 0 where the field never was a number. A statistic
            of an item comes as two fields, `<name>@10` and `<name>@100`, as MARN discretises twice.
    """

    name: str
    group: Group
    table: str
    rows: int
    kind: Literal["id", "number"] = "id"
    buckets: int = 0


@dataclass(frozen=True)
class Sequence:
    """A history of a request's user, oldest first, padded at the front (newest last).

    Args:
        name: `buys` (bought items) or `behaviours` (clicks, carts and purchases).
        length: Items kept, at most.
        features: Fields of each item of the history; their `group` is `item`, their names are `<sequence>.<field>`,
            their tables those of the candidate's fields of the same meaning. Fields without a counterpart among the
            candidate's are properties of the behaviour, such as `behaviours.type` and `behaviours.gap`.
    """

    name: str
    length: int
    features: tuple[ModelFeature, ...]


@dataclass(frozen=True)
class ContentWidths:
    """Widths of the frozen encoders' outputs.

    Args:
        text_tokens: WordPieces kept of an item's text (T).
        text_width: Width of a text token.
        patches: Image patches (P), in reading order.
        image_width: Width of a patch and of the whole-image vector.
    """

    text_tokens: int
    text_width: int
    patches: int
    image_width: int


@dataclass(frozen=True)
class Schema:
    """All inputs of a model.

    Args:
        features: Fields of user, context, candidate and their crosses.
        sequences: Histories; empty for flat sets.
        content: Widths of text and image tokens, or None where there is no content.
        tasks: Labels the data have, such as `cvr` and `ctr`.

    Example:
        The inputs of the batch in `Batch`'s example: a user, an item, and a history of at most three bought items,
        which share the candidates' table::

            group   field          table    rows   one value a
            user    user_id        user_id  101    request              [B]
            item    item_id        item_id  1001   candidate            [S]
            item    buys.item_id   item_id  1001   place of a history   [B, L]

        >>> schema = Schema(
        ...     features=(
        ...         ModelFeature("user_id", "user", "user_id", 101),
        ...         ModelFeature("item_id", "item", "item_id", 1001),
        ...     ),
        ...     sequences=(Sequence("buys", 3, (ModelFeature("buys.item_id", "item", "item_id", 1001),)),),
        ... )
        >>> [feature.name for feature in schema.group("item")]
        ['item_id']
        >>> [feature.name for feature in schema.all_features()]
        ['user_id', 'item_id', 'buys.item_id']
    """

    features: tuple[ModelFeature, ...]
    sequences: tuple[Sequence, ...] = ()
    content: ContentWidths | None = None
    tasks: tuple[str, ...] = ("cvr",)

    def group(self, *groups: Group) -> tuple[ModelFeature, ...]:
        """The fields of some groups, in order."""
        return tuple(feature for feature in self.features if feature.group in groups)

    def sequence(self, name: str) -> Sequence | None:
        """The history of that name, if the data have it."""
        return next((sequence for sequence in self.sequences if sequence.name == name), None)

    def all_features(self) -> tuple[ModelFeature, ...]:
        """Fields of requests, candidates and histories."""
        return self.features + tuple(feature for sequence in self.sequences for feature in sequence.features)


@dataclass(frozen=True)
class Space:
    """One set of embeddings that a model asks for; two spaces never share weights.

    Args:
        name: Name within the model, such as `main` or `linear`.
        width: Width of the vectors.
        features: Names of the fields (`<sequence>.<field>` for a history's) to look up; fields of one table share rows.
        init_std: Standard deviation of the normal initial values.
    """

    name: str
    width: int
    features: tuple[str, ...]
    init_std: float = 0.01
