"""The catalogue through the days: a share of listings is replaced each morning, promotions come and go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from features.errors import DataError
from features.record import Record
from features.times import DAY, day_start
from simulator.city import messages
from simulator.city.config import CityConfig
from simulator.city.draws import Ints, generator
from simulator.city.listings import Listings, fill, reprice
from simulator.city.photo import PhotoSpec
from simulator.city.tables import BRANDS, CATEGORIES, ORIGINS, PACKAGES
from simulator.city.truth import listing_rows
from simulator.city.world import Goods, Shops


class PhotoStore(Protocol):
    """Keeps photos."""

    def prepare(self, specs: Sequence[PhotoSpec]) -> None:
        """Hear which photos will be asked for next."""
        ...

    def uri(self, spec: PhotoSpec) -> str:
        """`blob:<sha256>` of the rendered photo, which is kept."""
        ...


class UnkeptPhotos:
    """Renders photos for their names and keeps none."""

    def prepare(self, specs: Sequence[PhotoSpec]) -> None:
        """Render none before it is asked for."""

    def uri(self, spec: PhotoSpec) -> str:
        """`blob:<sha256>` of the rendered photo."""
        from simulator.city.painter import jpeg

        return "blob:" + hashlib.sha256(jpeg(spec)).hexdigest()


class CityCatalogue:
    """Live listings and what of them changed as the open day began."""

    def __init__(self, config: CityConfig, seed: int, goods: Goods, shops: Shops, photos: PhotoStore | None) -> None:
        self.config, self.seed, self.goods, self.shops = config, seed, goods, shops
        self.photos: PhotoStore = photos or UnkeptPhotos()
        self.listings = Listings.empty(config.listings)
        self.young = np.zeros(config.listings, dtype=bool)
        self._next = 0
        self._gone: list[str] = []
        self._new: Ints = np.zeros(0, dtype=np.int64)
        self._repriced: Ints = np.zeros(0, dtype=np.int64)
        self._slot_of: dict[str, int] = {}

    def open_day(self, day: int, first: bool) -> Ints:
        """Replace listings and change promotions.

        Returns:
            Slots with new listings.
        """
        import datetime as dt

        config = self.config
        start = day_start(config.start + dt.timedelta(days=day))
        rng = generator(self.seed, "catalogue", day)
        self._repriced = np.zeros(0, dtype=np.int64)
        if first:
            self._gone, self._new = [], np.arange(config.listings)
            mean_age = 1 / max(config.replaced_daily, 0.005)
            ages = rng.exponential(mean_age, config.listings) + 1.0  # they have been on sale for a while
            created = start - (ages * DAY).astype(np.int64)
        else:
            count = rng.binomial(config.listings, config.replaced_daily)
            self._new = np.sort(rng.choice(config.listings, count, replace=False))
            self._gone = [self.listings.item_id(slot) for slot in self._new.tolist()]
            created = np.full(count, start)
            kept = np.setdiff1d(np.arange(config.listings), self._new)
            ends = kept[self.listings.promoted[kept] & (rng.random(len(kept)) < 1 / 3)]
            begins = kept[~self.listings.promoted[kept]]
            odds = config.promoted / 3 / max(1 - config.promoted, 0.05)
            begins = begins[rng.random(len(begins)) < odds]
            self._repriced = np.sort(np.concatenate([ends, begins]))
            for slot in self._repriced.tolist():
                self.listings.promoted[slot] = not self.listings.promoted[slot]
                reprice(self.listings, slot)
        fill(self.listings, self._new, self._next, created, config, self.seed, self.goods, self.shops)
        self._next += len(self._new)
        self.young = start - self.listings.created_us < DAY
        self._slot_of.clear()
        return self._new

    def slots(self, items: Sequence[str]) -> Ints:
        """Slots of live listings by their names.

        Raises:
            DataError: If one is not live or occurs twice.
        """
        if not self._slot_of:
            self._slot_of = {f"item{serial:08d}": slot for slot, serial in enumerate(self.listings.serial.tolist())}
        try:
            slots = np.array([self._slot_of[item] for item in items], dtype=np.int64)
        except KeyError as error:
            raise DataError("not a live listing", field="item_id", value=error.args[0]) from None
        if len(set(items)) < len(items):
            raise DataError("an item is shown twice", field="shown", value=list(items))
        return slots

    def image_uri(self, slot: int) -> str | None:
        """The listing's photo, rendered when first asked for."""
        spec = self.listings.photo[slot]
        if spec is None or not self.config.photos:
            return None
        known = self.listings.image_uri[slot]
        if known is None:
            known = self.listings.image_uri[slot] = self.photos.uri(spec)
        return known

    def events(self, moment: int) -> Iterator[Record]:
        """The morning's changes, a millisecond apart."""
        for name in self._gone:
            moment += 1_000
            yield messages.gone("items", name, moment)
        if self.config.photos:
            photos = [self.listings.photo[slot] for slot in self._new.tolist()]
            self.photos.prepare([spec for spec in photos if spec is not None])
        for slot in np.concatenate([self._new, self._repriced]).tolist():
            moment += 1_000
            yield messages.item(self.listings, self.shops, slot, moment, self.image_uri(slot))

    def truth_rows(self) -> pa.Table:
        """What the new listings are."""
        listings, new = self.listings, self._new
        categories = listings.category[new]
        places = listings.variety[new] - self.goods.var_start[categories]
        return listing_rows({
            "item_id": [listings.item_id(slot) for slot in new.tolist()],
            "created_us": listings.created_us[new], "product": listings.product[new],
            "shop_id": [messages.shop_id(shop) for shop in listings.shop[new].tolist()],
            "category": [CATEGORIES[category].name for category in categories.tolist()],
            "variety": [
                CATEGORIES[category].varieties[place][0]
                for category, place in zip(categories.tolist(), places.tolist(), strict=True)
            ],
            "brand": [BRANDS[brand][0] for brand in listings.brand[new].tolist()],
            "package": [PACKAGES[package] for package in listings.package[new].tolist()],
            "weight_g": listings.weight[new], "origin": [ORIGINS[origin] for origin in listings.origin[new].tolist()],
            "freshness": np.ma.masked_invalid(listings.freshness[new]),
            "dirt_text": [listings.dirt_text[slot] for slot in new.tolist()],
            "dirt_photo": [listings.dirt_photo[slot] for slot in new.tolist()],
            "mismatch": listings.mismatch[new],
        })  # fmt: skip
