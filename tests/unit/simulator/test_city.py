"""The city keeps to its settings: rates, delays, recurrence, propensities, position, dirt; one seed is one city."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import numpy as np
import pytest

from features.errors import DataError, UsageError
from features.events import Gone, Impression, Item, decode
from features.record import Record
from features.times import DAY, HOUR, day_start
from simulator.city import draws
from simulator.city.choice import examination
from simulator.city.config import CityConfig, Strengths
from simulator.city.policy import log_lists
from simulator.city.simulate import City, ListRequest
from simulator.city.tables import CATEGORIES

pytestmark = pytest.mark.slow

DAYS = 6
SMALL = CityConfig.small(photos=False)


def lived(config: CityConfig, seed: int, days: int = DAYS) -> list[Record]:
    return list(City(config, seed).history(config.start, days))


@pytest.fixture(scope="module")
def events() -> list[Record]:
    return lived(SMALL, 3)


@pytest.fixture(scope="module")
def values(events: list[Record]) -> dict[str, list[dict[str, Any]]]:
    by_topic: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.value is not None:
            by_topic[event.topic].append({**json.loads(event.value), "at": event.time_us})
    return by_topic


def digest(events: list[Record]) -> str:
    return hashlib.sha256(b"".join(repr(event).encode() for event in events)).hexdigest()


def test_same_seed_same_bytes(events: list[Record]) -> None:
    assert digest(lived(SMALL, 3)) == digest(events)
    assert digest(lived(SMALL, 4, 1)) != digest(lived(SMALL, 3, 1))


def test_same_seed_same_photos() -> None:
    config = CityConfig.small(warm_up_days=0, listings=110, candidates=50)
    first, second = (
        [event for event in City(config, 5).catalogue_events(config.start) if event.topic == "items"] for _ in range(2)
    )
    assert first == second
    uris = [json.loads(event.value or b"").get("image_uri") for event in first]
    assert sum(uri is not None for uri in uris) > 90 and len(set(uris)) > 90


def test_every_event_is_valid_and_in_order(events: list[Record]) -> None:
    last = 0
    for event in events:
        decode(event.topic, event.key.encode(), event.value, event.time_us)
        assert event.time_us >= last
        last = event.time_us
    ids = [json.loads(event.value)["event_id"] for event in events if event.value]
    assert len(ids) == len(set(ids))


def test_weeks_of_purchases_come_first(values: dict[str, list[dict[str, Any]]]) -> None:
    start = day_start(SMALL.start)
    before = [one for one in values["purchases"] if one["at"] < start]
    assert len(before) > 14 * 60 and all("request_id" not in one for one in before)
    assert min(one["at"] for one in before) >= start - SMALL.warm_up_days * DAY
    assert all(one["at"] >= start for topic in ("impressions", "clicks", "carts") for one in values[topic])


def test_only_live_listings_are_shown(events: list[Record]) -> None:
    live: set[str] = set()
    for event in events:
        one = decode(event.topic, event.key.encode(), event.value, event.time_us)
        if isinstance(one, Item):
            live.add(one.item_id)
        elif isinstance(one, Gone) and one.topic == "items":
            live.remove(one.key)
        elif isinstance(one, Impression):
            assert {item.item_id for item in one.items} <= live
            assert len(one.items) == SMALL.shown
    assert len(live) == SMALL.listings


def test_click_and_purchase_rates(values: dict[str, list[dict[str, Any]]]) -> None:
    shown = len(values["impressions"]) * SMALL.shown
    clicks = len(values["clicks"])
    bought = sum("request_id" in one for one in values["purchases"])
    assert abs(clicks / shown - SMALL.click_rate) < 0.015
    assert abs(bought / clicks - SMALL.purchase_rate) < 0.06


def test_delays() -> None:
    config = CityConfig(photos=False, requests_per_day=2000, shoppers=900, warm_up_days=1)
    city = City(config, 8)
    asked: dict[str, int] = {}
    delays = []
    for event in city.history(config.start, 3):
        one = json.loads(event.value) if event.value else {}
        if event.topic == "impressions":
            asked[one["request_id"]] = event.time_us
        elif event.topic == "purchases" and "request_id" in one:
            delays.append(event.time_us - asked[one["request_id"]])
    late = np.array(delays)
    assert len(late) > 2000
    assert abs((late < HOUR / 2).mean() - 0.85) < 0.03
    assert 0.99 < (late < DAY).mean() < 1.0
    assert late.min() > 0


def test_goods_are_bought_again_after_their_cycle() -> None:
    """With need, few purchases of a good follow the last one within half its cycle; without it, many do."""
    cycle = {one.name: one.cycle_days for one in CATEGORIES}

    def early(strengths: Strengths) -> dict[int, float]:
        config = CityConfig(
            photos=False, warm_up_days=35, shoppers=250, listings=600, elsewhere=0.0, strengths=strengths
        )
        when: dict[tuple[str, str], list[int]] = defaultdict(list)
        category: dict[str, str] = {}
        for event in City(config, 2).history(config.start, 0):
            one = json.loads(event.value) if event.value else {}
            if event.topic == "items" and one:
                category[one["item_id"]] = one["category_id"]
            elif event.topic == "purchases":
                when[one["user_id"], category[one["item_id"]]].append(event.time_us)
        soon: dict[int, list[float]] = defaultdict(list)
        for (_, name), times in when.items():
            soon[cycle[name]] += (np.diff(times) / DAY < cycle[name] / 2).tolist()
        return {days: float(np.mean(soon[days])) for days in (3, 7, 14, 28)}

    on, off = early(Strengths(need=3.0)), early(Strengths().off("need"))
    assert all(on[days] < 0.6 * off[days] for days in (3, 7, 14))
    assert on[28] < 0.8 * off[28]


def test_dirt_is_at_its_rate() -> None:
    config = CityConfig(photos=False, listings=4000, warm_up_days=0)
    rates: list[float] = []
    kinds: Counter[str] = Counter()
    for seed in (0, 1):
        city = City(config, seed)
        list(islice(city.catalogue_events(config.start), 1))
        listings = city.catalogue.listings
        dirty = [bool(a or b) for a, b in zip(listings.dirt_text, listings.dirt_photo, strict=True)]
        rates.append(sum(dirty) / len(dirty))
        kinds.update(listings.dirt_text + listings.dirt_photo)
    assert abs(np.mean(rates) - config.dirt.rate) < 0.04
    text = sum(kinds[name] for name, _ in config.dirt.text)
    for name, share in config.dirt.text:
        assert abs(kinds[name] / text - share) < 0.06, name


def test_listings_are_replaced() -> None:
    new = []
    city = City(SMALL, 6)
    for day in range(8):
        city.skip(SMALL.start, day) if day else None
        changes = list(city.catalogue_events(SMALL.start + dt.timedelta(days=day)))
        new.append(sum(event.topic == "items" and event.value is None for event in changes))
    assert abs(np.mean(new) / SMALL.listings - SMALL.replaced_daily) < 0.03


def test_looks_fall_with_position() -> None:
    """On uniformly ranked requests clicks by position follow the examination curve."""
    config = CityConfig.small(photos=False, requests_per_day=1500, shoppers=600, uniform_share=1.0, warm_up_days=1,
                              young_slots=(0, 0), examination=0.6)  # fmt: skip
    place: dict[tuple[str, str], int] = {}
    clicks = np.zeros(config.shown)
    for event in City(config, 7).history(config.start, 3):
        one = json.loads(event.value) if event.value else {}
        if event.topic == "impressions":
            place |= {(one["request_id"], item["item_id"]): item["position"] for item in one["items"]}
        elif event.topic == "clicks":
            clicks[place[one["request_id"], one["item_id"]]] += 1
    slope = np.polyfit(np.log1p(np.arange(config.shown)), np.log(clicks), 1)[0]
    assert slope == pytest.approx(-0.6, abs=0.06)
    assert examination(config, np.zeros(1)) == 1.0


def test_propensities_are_exact() -> None:
    """Over many draws each item comes first as often as its propensity says; and lists' chances sum to one."""
    config = CityConfig.small(shown=3, candidates=6, young_slots=(0, 0), uniform_share=0.0)
    rows = 60_000
    weight = np.tile(np.array([5.0, 1.0, 2.0, 0.5, 1.0, 3.0]), (rows, 1))
    young = np.zeros(weight.shape, dtype=bool)
    lists = log_lists(config, draws.combine(np.uint64(9), np.arange(rows)), weight, young)
    first = np.bincount(lists.index[:, 0], minlength=6) / rows
    assert np.abs(first - weight[0] / weight[0].sum()).max() < 0.007
    chance = {tuple(index): product for index, product in
              zip(lists.index.tolist(), lists.propensity.prod(axis=1).tolist(), strict=True)}  # fmt: skip
    assert len(chance) == 120 and sum(chance.values()) == pytest.approx(1.0)
    seen = Counter(map(tuple, lists.index.tolist()))
    worst = max(abs(seen[index] / rows - value) / np.sqrt(value / rows) for index, value in chance.items())
    assert worst < 4.5


def test_young_listings_have_their_places(values: dict[str, list[dict[str, Any]]]) -> None:
    born: dict[str, int] = {}
    for one in values["items"]:
        born.setdefault(one["item_id"], one["at"])
    uniform = 0
    for one in values["impressions"]:
        start = day_start(SMALL.start) + (one["at"] - day_start(SMALL.start)) // DAY * DAY
        young = [item for item in one["items"] if born[item["item_id"]] >= start]
        assert len(young) in (3, 4)
        assert all(0 < item["propensity"] <= 1 for item in one["items"])
        uniform += one["policy"] == "uniform"
    assert abs(uniform / len(values["impressions"]) - SMALL.uniform_share) < 0.05


def test_uniform_propensities(values: dict[str, list[dict[str, Any]]]) -> None:
    """Under the uniform policy they are one over what is left of the pool."""
    born: dict[str, int] = {}
    for one in values["items"]:
        born.setdefault(one["item_id"], one["at"])
    checked = 0
    for one in values["impressions"]:
        if one["policy"] != "uniform":
            continue
        start = day_start(SMALL.start) + (one["at"] - day_start(SMALL.start)) // DAY * DAY
        pools: dict[bool, list[float]] = {True: [], False: []}
        for item in one["items"]:
            pools[born[item["item_id"]] >= start].append(1 / item["propensity"])
        for counts in pools.values():
            assert counts == pytest.approx([counts[0] - step for step in range(len(counts))])
        assert pools[True][0] + pools[False][0] == pytest.approx(SMALL.candidates)
        checked += 1
    assert checked > 100


def ready(seed: int = 11, **changes: object) -> tuple[City, list[ListRequest]]:
    config = CityConfig.small(photos=False, **changes)
    city = City(config, seed)
    return city, list(city.requests(config.start + dt.timedelta(days=1)))


def test_answers_do_not_depend_on_the_order_of_calls() -> None:
    city, requests = ready()
    forward = {one.request_id: city.answer(one, one.candidates[:20]) for one in requests}
    after = list(city.requests(SMALL.start + dt.timedelta(days=2)))
    again, requests = ready()
    backward = {one.request_id: again.answer(one, one.candidates[:20]) for one in reversed(requests)}
    for one in requests[:10]:  # asked twice: the same answer, counted once
        again.answer(one, one.candidates[:20])
    assert forward == backward and any(forward.values())
    later = list(again.requests(SMALL.start + dt.timedelta(days=2)))
    assert later == after
    assert [city.expected(one) for one in after] == [again.expected(one) for one in later]


def test_answers_change_the_days_after() -> None:
    city, requests = ready()
    for one in requests:
        city.answer(one, one.candidates[:20])
    bought, _ = ready()
    day = SMALL.start + dt.timedelta(days=2)
    answered = {one.request_id: city.expected(one) for one in city.requests(day)}
    ignored = {one.request_id: bought.expected(one) for one in bought.requests(day)}
    assert answered.keys() == ignored.keys() and answered != ignored


def test_skipping_days_lives_them() -> None:
    config = SMALL
    one, two = City(config, 12), City(config, 12)
    list(one.history(config.start, 3))
    two.skip(config.start, 3)
    day = config.start + dt.timedelta(days=3)
    assert list(one.requests(day)) == list(two.requests(day))


def test_bad_calls_are_refused() -> None:
    city, requests = ready()
    with pytest.raises(DataError, match="not a live listing"):
        city.answer(requests[0], ["item99999999"])
    with pytest.raises(DataError, match="shown twice"):
        city.answer(requests[0], [requests[0].candidates[0]] * 2)
    assert city.answer(requests[0], []) == []
    with pytest.raises(UsageError, match="lived already"):
        list(city.requests(SMALL.start))
    with pytest.raises(UsageError, match="before the city's first"):
        city.index(SMALL.start - dt.timedelta(days=1))
    with pytest.raises(UsageError, match="no such mechanism"):
        Strengths().off("nothing")
    with pytest.raises(UsageError, match="not a city"):
        CityConfig(candidates=5)


def test_oracle_beats_popularity_beats_random() -> None:
    """In true expected purchases a request, paired; the 95% intervals exclude zero."""
    config = CityConfig.small(photos=False, shoppers=300, requests_per_day=400)
    city = City(config, 13)
    city.skip(config.start, 4)
    looked = examination(config, np.arange(config.shown))
    popularity: dict[str, float] = {}
    oracle: list[float] = []
    popular: list[float] = []
    random: list[float] = []
    for request in city.requests(config.start + dt.timedelta(days=4)):
        truth = city.expected(request)
        if not popularity:
            names = [city.catalogue.listings.item_id(slot) for slot in range(config.listings)]
            popularity = dict(zip(names, city.popularity.tolist(), strict=True))
        by_popularity = sorted(request.candidates, key=lambda item: -popularity[item])
        for values, ranked in ((oracle, sorted(truth, key=lambda item: -truth[item])), (popular, by_popularity),
                               (random, request.candidates)):  # fmt: skip
            values.append(sum(p * truth[item] for p, item in zip(looked.tolist(), ranked, strict=False)))
    for better, worse in ((oracle, popular), (popular, random)):
        difference = np.array(better) - np.array(worse)
        assert difference.mean() > 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))


def test_a_mechanism_switched_off_is_gone() -> None:
    """Freshness, trust and position move the truth when on, and not at all when off."""

    def spread(strengths: Strengths) -> float:
        config = CityConfig.small(photos=False, strengths=strengths)
        city = City(config, 14)
        request = next(city.requests(config.start))
        listings = city.catalogue.listings
        slots = city.catalogue.slots(request.candidates)
        before = city.expected(request)
        listings.freshness[slots] = np.where(np.isnan(listings.freshness[slots]), np.nan, 0.05)
        listings.photo_freshness[slots] = np.where(np.isnan(listings.photo_freshness[slots]), np.nan, 0.05)
        city.choice.open_day(listings, city.shoppers, city.choice.taste)
        return max(abs(before[item] - value) for item, value in city.expected(request).items())

    assert spread(Strengths()) > 0.01
    assert spread(Strengths().off("freshness")) == 0.0


def test_a_sudden_shift_changes_tastes_at_its_day() -> None:
    day = SMALL.start + dt.timedelta(days=2)

    def truth(shift: int | None, at: dt.date) -> list[dict[str, float]]:
        city = City(CityConfig.small(photos=False, shift_day=shift), 15)
        return [city.expected(request) for request in islice(city.requests(at), 20)]

    assert truth(2, day - dt.timedelta(days=1)) == truth(None, day - dt.timedelta(days=1))
    assert truth(2, day) != truth(None, day)


def test_scale_is_a_setting() -> None:
    for wanted in (1e3, 3e4):
        config = CityConfig(photos=False, warm_up_days=1).scaled(wanted)
        config = CityConfig(**{**vars(config), "start": dt.date(2025, 3, 6)})  # a Thursday is a mean day
        count = sum(
            event.topic not in ("items", "users") and event.time_us >= day_start(config.start)
            for event in City(config, 1).history(config.start, 1)
        )
        assert abs(count / wanted - 1) < 0.15
