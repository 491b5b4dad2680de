"""Features at serving: the user's and the candidates' values from the online store, crosses by the shared function.

Importing this module is light; Feast is imported when the first reader is made. Torch is never needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.dictionary import Level
from features.encoded import JsonObject
from features.errors import UnreachableError
from features.events import Scalar
from features.layout import Layout
from features.scalars import text
from features.store.columns import request_columns
from features.store.crosses import Column, crosses
from features.store.definitions import ITEM, USER, Definitions
from features.store.materialize import live_cut
from features.store.registry import OnlineStore, open_store, read_definitions
from features.times import SECOND

_OPTIONAL = ("buy_category", "buy_shop")  # lists whose empty texts mean unknown: Feast's lists hold no null


@dataclass(frozen=True)
class Fetched:
    """What one request's features are.

    Args:
        columns: Column name → value, named and shaped as a window's row: `ctx_*` and `u_*` one value, `buy_*` and
            `beh_*` lists, `cand_item`, `i_*` and `x_*` lists as long as the candidates; None where unknown.
        feature_cutoff: The cut of the newest snapshot that any value comes from, µs; None if the store is empty.
        unknown_items: Candidates that the store does not know, in the order of the request.
        known_user: Whether the store knows the user.
        levels: What there is one value of in each column of a request, whether it was fetched or not.
    """

    columns: JsonObject
    feature_cutoff: int | None
    unknown_items: tuple[str, ...]
    known_user: bool
    levels: Mapping[str, Level]


class OnlineFeatures:
    """Reads one service's features from the online store.

    Args:
        layout: Where the published registry lies.
        service: The service's name, as the bundle pins it.
        online: Address of the online store.

    Raises:
        NotReadyError: If the service was never published.
    """

    def __init__(self, layout: Layout, service: str, online: OnlineStore) -> None:
        self.layout, self.service = layout, service
        self.definitions: Definitions = read_definitions(layout, service)
        self._levels: dict[str, Level] = {c.name: c.level for c in request_columns(self.definitions)}
        self._store = open_store(layout, service, online)

    def fetch(
        self,
        user_id: str,
        item_ids: Sequence[str],
        context: Mapping[str, Scalar],
        now_us: int | None = None,  # noqa: ARG002
    ) -> Fetched:
        """The features of a user and C candidates.

        Args:
            user_id: Who asks.
            item_ids: The candidates, each once.
            context: The request's context, as the impression will log it.
            now_us: The request's time; no feature depends on it, days are counted to the snapshot's cut.

        Returns:
            Columns as in a window's row, and the cutoff that the impression is to name.

        Raises:
            UnreachableError: If the online store does not answer.
        """
        user = self._read(USER, [user_id])
        items = self._read(ITEM, list(item_ids))
        user_at, items_at = user.pop("at"), items.pop("at")
        cutoff = max([*user_at, *items_at], default=0) or live_cut(self.layout, self.service)
        row = {name: values[0] for name, values in user.items()}
        for feature in self.definitions.histories:
            row[feature.name] = list(row[feature.name] or [])
        columns: JsonObject = context_columns(self.definitions.context, context)
        crossed = crosses(cutoff or 0, columns, row, items | {"item_id": list(item_ids)})
        for name in _OPTIONAL:
            row[name] = [value or None for value in row[name]]
        hidden = {feature.name for feature in self.definitions.user + self.definitions.item if feature.hidden}
        columns |= {name: value for name, value in row.items() if name not in hidden}
        columns |= {"cand_item": list(item_ids)}
        columns |= {name: values for name, values in items.items() if name not in hidden} | crossed
        unknown = tuple(item for item, at in zip(item_ids, items_at, strict=True) if not at)
        return Fetched(columns, cutoff, unknown, bool(user_at[0]), self._levels)

    def _read(self, entity: str, keys: list[str]) -> dict[str, Column]:
        """Values of each feature by key, and `at`: the snapshot's cut of each key, 0 where it is unknown."""
        names = [feature.name for feature in self.definitions.features(entity)]
        if not keys:
            return {name: [] for name in (*names, "at")}
        import redis

        try:
            answer = self._store.get_online_features(
                features=self.definitions.refs(entity), entity_rows=[{f"{entity}_id": key} for key in keys]
            ).to_dict(include_event_timestamps=True)
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise UnreachableError(
                "the online store does not answer", field="service", value=self.service,
                remedy="start Redis (`freshrank up`) or mend `redis.url`",
            ) from error  # fmt: skip
        values: dict[str, Column] = {name: answer[name] for name in names}
        return values | {"at": [seconds * SECOND for seconds in answer[f"{names[0]}__ts"]]}


def context_columns(fields: Sequence[str], context: Mapping[str, Scalar]) -> dict[str, str | None]:
    """`ctx_*` of a request's context, as text, as labelled requests have them.

    Args:
        fields: Names of the fields, without prefix.
        context: The context; other fields are passed over.

    Example:
        >>> context_columns(("zone", "hour", "payday"), {"zone": "z1", "hour": 9})
        {'ctx_zone': 'z1', 'ctx_hour': '9', 'ctx_payday': None}
    """
    return {f"ctx_{name}": text(context.get(name)) for name in fields}
