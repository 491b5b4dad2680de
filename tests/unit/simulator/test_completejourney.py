"""The Complete Journey as events: what is a candidate, what is a label, and that nothing is known too early."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from features.errors import UsageError
from features.events import Event, Gone, Impression, Item, Purchase, User, decode
from features.layout import Layout
from features.record import Record
from features.times import DAY, SECOND, day_start
from simulator.completejourney.data import Basket, Journey, week_start
from simulator.completejourney.photos import ClassPhotos, class_of
from simulator.completejourney.replay import replay

pytestmark = pytest.mark.slow

FROM = day_start(dt.date(2017, 3, 5))
TO = FROM + 2 * DAY  # a promotion week begins on the second day


def decoded(events: list[Record]) -> list[Event]:
    """The events as ingest reads them, Kafka's milliseconds included."""
    found = []
    for event in events:
        known_time = -(-event.time_us // 1000) * 1000
        read = decode(event.topic, event.key.encode(), event.value, known_time)
        assert not isinstance(read, Gone)
        found.append(read)
    return found


@pytest.fixture(scope="module")
def events() -> list[Record]:
    return list(replay(FROM, TO))


@pytest.fixture(scope="module")
def read(events: list[Record]) -> list[Event]:
    return decoded(events)


@pytest.fixture(scope="module")
def journey() -> Journey:
    return Journey(until=TO)


@pytest.fixture(scope="module")
def baskets(journey: Journey) -> dict[str, Basket]:
    return {f"cj-{basket.basket_id}": basket for basket in journey.baskets(FROM, TO)}


def test_events_come_in_order_of_known_time_and_happened_then(events: list[Record], read: list[Event]) -> None:
    times = [event.time_us for event in events]
    assert times == sorted(times)
    assert [event.event_time_us for event in read] == times
    assert min(e.time_us for e in events if e.topic == "purchases") >= FROM
    assert max(times) < TO


def test_event_ids_differ_and_repeat(events: list[Record], read: list[Event]) -> None:
    assert len({event.event_id for event in read}) == len(read)
    assert list(replay(FROM, TO)) == events


def test_an_event_does_not_depend_on_the_range_it_is_published_in(events: list[Record]) -> None:
    first, second = list(replay(FROM, FROM + DAY)), list(replay(FROM + DAY, TO))
    everything = set(events)
    assert set(first) | set(second) <= everything
    for topic in ("impressions", "purchases", "users"):
        parts = {event for event in (*first, *second) if event.topic == topic}
        assert parts == {event for event in everything if event.topic == topic}


def test_another_seed_draws_other_candidates(events: list[Record]) -> None:
    other = list(replay(FROM, FROM + DAY, seed=1))
    mine = {event.key: event.value for event in events if event.topic == "impressions"}
    yours = {event.key: event.value for event in other if event.topic == "impressions"}
    assert sum(mine.get(key) != value for key, value in yours.items()) == len(yours) > 100


def test_candidates_were_promoted_and_a_fifth_of_them_was_bought(
    read: list[Event], journey: Journey, baskets: dict[str, Basket]
) -> None:
    promoted = {week: journey.promoted(week) for week in {basket.week for basket in baskets.values()}}
    shown = bought = 0
    for event in read:
        if isinstance(event, Impression):
            basket = baskets[event.request_id]
            on_offer = promoted[basket.week][basket.store_id]
            candidates = np.array([int(item.item_id) for item in event.items])
            positives = np.intersect1d(candidates, basket.products)
            assert np.isin(candidates, on_offer).all()
            assert len(positives) * 5 == len(candidates)
            assert set(positives) == set(np.intersect1d(basket.products, on_offer))
            shown, bought = shown + len(candidates), bought + len(positives)
    assert shown == 5 * bought > 5000


def test_what_is_bought_without_promotion_flows_but_is_never_a_candidate(read: list[Event]) -> None:
    shown = {(e.request_id, item.item_id) for e in read if isinstance(e, Impression) for item in e.items}
    purchases = [(e.request_id, e.item_id) for e in read if isinstance(e, Purchase)]
    assert sum(pair not in shown for pair in purchases) > len(purchases) / 3
    requests = {e.request_id for e in read if isinstance(e, Impression)}
    assert {request for request, _ in purchases} > requests  # baskets without a promoted item make no request


def test_the_place_in_the_list_says_nothing(read: list[Event], baskets: dict[str, Basket]) -> None:
    places: list[float] = []
    for event in read:
        if isinstance(event, Impression):
            bought = {str(product) for product in baskets[event.request_id].products}
            places += [item.position / (len(event.items) - 1) for item in event.items if item.item_id in bought]
    assert abs(float(np.mean(places)) - 0.5) < 4 * 0.29 / len(places) ** 0.5  # uniform: mean 1/2, deviation .29


def test_a_list_is_known_before_anything_of_its_basket(read: list[Event]) -> None:
    shown = {e.request_id: e for e in read if isinstance(e, Impression)}
    assert all(e.feature_cutoff == e.event_time for e in shown.values())
    for event in read:
        if isinstance(event, Purchase) and event.request_id in shown:
            assert shown[event.request_id].event_time_us == event.event_time_us - SECOND


def test_every_item_and_user_is_known_when_it_is_needed(read: list[Event]) -> None:
    items: dict[str, Item] = {}
    users = {e.user_id for e in read if isinstance(e, User)}
    for event in read:
        if isinstance(event, Item):
            items[event.item_id] = event
        elif isinstance(event, Impression):
            assert event.user_id in users
            assert all(items[item.item_id].price_minor == item.price_minor for item in event.items)
        elif isinstance(event, Purchase):
            assert event.item_id in items


def test_prices_hold_nothing_of_the_week_they_are_for(journey: Journey) -> None:
    week = 1 + (FROM - week_start(1)) // (7 * DAY)
    products = np.unique(np.concatenate([basket.products for basket in journey.baskets(FROM, TO)]))
    blind = Journey(until=week_start(week))  # has seen no sale of the week or later
    known = {(product, at): price for product, at, price in journey.listings(products) if at <= week}
    same = {(product, at): price for product, at, price in blind.listings(products) if at <= week}
    first_sold_later = {product for product, at in known if (product, at) not in same}
    assert len(known) > 10_000
    assert {key: price for key, price in known.items() if key[0] not in first_sold_later} == {
        key: price for key, price in same.items() if key[0] not in first_sold_later
    }
    assert len(first_sold_later) < len(products) / 20  # listed by their first sale, at their category's price


def test_titles_are_the_product_descriptions_and_some_are_missing(read: list[Event]) -> None:
    items = [event for event in read if isinstance(event, Item)]
    assert Counter(item.title is None for item in items)[False] > 0.95 * len(items)
    assert all(item.image_uri is None for item in items)
    weighed = [item.weight_g for item in items if item.weight_g is not None]
    assert weighed and max(weighed) <= 50_000


def test_an_empty_range_has_no_events() -> None:
    before = day_start(dt.date(2016, 1, 1))
    assert list(replay(before, before + DAY)) == []


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A tiny data set in the layout of the GroceryStoreDataset."""
    root = tmp_path / "photos" / "dataset"
    (root / "train" / "Fruit" / "Banana").mkdir(parents=True)
    for number in range(5):
        (root / "train" / "Fruit" / "Banana" / f"{number}.jpg").write_bytes(b"jpeg %d" % number)
    (root / "classes.csv").write_text("Class Name (str),Class ID (int)\nBanana,0\n", encoding="utf-8")
    return root.parent


def test_photos_join_by_class_and_are_kept_by_content(dataset: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "stack")
    photos = ClassPhotos(dataset, layout)
    uris = {product: photos("BANANAS, TROPICAL FRUIT", product) for product in range(50)}
    assert len(set(uris.values())) == 5
    assert uris == {product: ClassPhotos(dataset, layout)("BANANAS, TROPICAL FRUIT", product) for product in range(50)}
    for uri in uris.values():
        assert uri is not None
        assert layout.blob(uri.removeprefix("blob:")).read_bytes().startswith(b"jpeg")
    assert photos("LEMONS, CITRUS", 1) is None  # a class without photos
    assert photos("POTATO CHIPS, BAG SNACKS", 1) is None


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset/classes\.csv"):
        ClassPhotos(tmp_path, Layout(tmp_path))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("APPLES GRANNY SMITH (BULK&BAG), APPLES", "Granny-Smith"),
        ("APPLES WEDGE/SLICES, VALUE ADDED FRUIT", None),
        ("POTATOES SWEET&YAMS, POTATOES", "Sweet-Potato"),
        ("POTATOES PROCESSED, VALUE ADDED VEGETABLES", None),
        ("TOMATOES HOTHOUSE ON THE VINE, TOMATOES", "Vine-Tomato"),
        ("CARROTS SLICED/SHRED/STICKS, VALUE ADDED VEGETABLES", None),
        ("FLUID MILK WHITE ONLY, FLUID MILK PRODUCTS", None),
    ],
)
def test_only_fresh_goods_have_a_class(words: str, name: str | None) -> None:
    assert class_of(words) == name
