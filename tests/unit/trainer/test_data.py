"""From a window to batches: schema, vocabularies, edges, thinning, order, resume."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from features.configuration import read
from features.errors import UsageError
from tests.trainer.windows import Made, make_window
from trainer.data.derive import derive, edges_of, item_table
from trainer.data.stream import Position, RequestSlice, Step, Stream
from trainer.data.thinning import kept, share_of_negatives
from trainer.data.window import Window, chunks, raw, select
from trainer.runtime.content import mask, pad
from trainer.runtime.encoding import Encoding, bucketise, newest
from trainer.runtime.models.schema import ContentWidths
from trainer.settings import TrainSettings


def settings(**values: Any) -> TrainSettings:
    return read(TrainSettings, {"min_count": 1, **values})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small window with several row groups a day."""
    return make_window(tmp_path_factory.mktemp("window"), requests_a_day=40, days=3, row_group=15)


@pytest.fixture(scope="module")
def window(made: Made) -> Window:
    return Window(made.window)


@pytest.fixture(scope="module")
def encoding(window: Window) -> Encoding:
    return derive(window, settings(), ContentWidths(4, 6, 9, 8))[0]


def test_fields_come_from_columns(encoding: Encoding) -> None:
    fields = {f.name: f for f in encoding.fields}
    assert fields["category_id"].column == "i_category" and fields["buys.category_id"].table == "category_id"
    assert fields["i_clicks_7d@10"].buckets == 10 and fields["i_clicks_7d@100"].buckets == 100
    assert fields["behaviours.type"].kind == "code" and fields["buys.gap"].kind == "gap"
    assert "u_age" not in fields, "a column that is null throughout is no feature"
    assert not any("purchased" in f.column or "clicked" in f.column for f in encoding.fields)


def test_edges_and_keys_come_from_training_days_alone(made: Made, tmp_path: Path, encoding: Encoding) -> None:
    import shutil

    other = tmp_path / "windows" / "other"
    shutil.copytree(made.window, other)
    file = next((other / "eval").iterdir())
    table = pq.read_table(file)
    at = table.schema.get_field_index("u_buys_30d")
    pq.write_table(table.set_column(at, table.schema.field(at), [np.full(len(table), 1e9)]), file)
    again = derive(Window(other), settings(), ContentWidths(4, 6, 9, 8))[0]
    assert again.vocabularies == encoding.vocabularies
    assert all(np.array_equal(again.edges[t], encoding.edges[t]) for t in encoding.edges)
    assert encoding.edges["u_buys_30d"].max() < 1e9
    day_d = {item for chunk in chunks(Window(made.window).evaluation, ["cand_item"], 99)
             for item in chunk.column("cand_item")}  # fmt: skip
    assert day_d - set(encoding.vocabularies["item_id"]), "day D shows items that training has no key for"


def test_rare_keys_share_row_zero(window: Window) -> None:
    strict = derive(window, settings(min_count=8), None)[0]
    loose = derive(window, settings(min_count=1), None)[0]
    assert 0 < len(strict.vocabularies["user_id"]) < len(loose.vocabularies["user_id"])
    cut = derive(window, settings(max_rows=5), None)[0]
    assert len(cut.vocabularies["item_id"]) == 5


def test_a_warm_vocabulary_grows_and_keeps_its_order(window: Window, encoding: Encoding) -> None:
    before = Encoding(
        encoding.fields, encoding.lengths, {**encoding.vocabularies, "user_id": {"gone": 1, "u7": 2}},
        {**encoding.edges, "u_buys_30d": np.array([1.5], np.float32)}, encoding.content, encoding.tasks,
    )  # fmt: skip
    now = derive(window, settings(), ContentWidths(4, 6, 9, 8), before)[0]
    assert list(now.vocabularies["user_id"])[:2] == ["gone", "u7"]
    assert len(now.vocabularies["user_id"]) == len(encoding.vocabularies["user_id"]) + 1
    assert now.edges["u_buys_30d"].tolist() == [1.5]


def test_null_rule() -> None:
    edges = np.array([1.0, 2.0], np.float32)
    numbers = np.array([np.nan, np.inf, 0.5, 1.0, 1.5, 9.0])
    assert bucketise(edges, numbers).tolist() == [0, 0, 1, 2, 2, 3]


@given(
    st.one_of(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=200),
        st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.5, 5.0, 8.0]), min_size=1, max_size=200),
    ),
    st.integers(2, 20),
)
def test_buckets_are_ordered_and_few_enough(values: list[float], buckets: int) -> None:
    numbers = np.array(values, np.float32)
    edges = edges_of([numbers], buckets)
    assert len(edges) < buckets and (np.diff(edges) > 0).all()
    found = bucketise(edges, np.sort(numbers))
    assert (np.diff(found) >= 0).all() and found.min() >= 1 and found.max() <= len(edges) + 1


@given(st.integers(2, 20), st.integers(1, 99))
def test_a_rare_events_count_is_told_from_zero(buckets: int, share: int) -> None:
    numbers = np.array([0.0] * (10_000 - share) + [1.0] * share, np.float32)
    assert bucketise(edges_of([numbers], buckets), np.array([0.0, 1.0])).tolist() == [1, 2]


def test_encoding_survives_a_file(encoding: Encoding, tmp_path: Path, window: Window) -> None:
    encoding.save(tmp_path)
    again = Encoding.load(tmp_path)
    items = item_table(window.folder / "items.parquet", encoding)
    found = _raw(window, encoding)
    one, other = encoding.encode(found, items), again.encode(found, items)
    assert again.schema == encoding.schema
    assert all(torch.equal(one.ids[name], other.ids[name]) for name in one.ids)


def _raw(window: Window, encoding: Encoding) -> Any:
    columns = list(encoding.columns())
    return raw(next(chunks(window.training, columns, 40)), columns)


def test_requests_encode_alone_as_together(window: Window, encoding: Encoding) -> None:
    items, found = item_table(window.folder / "items.parquet", encoding), _raw(window, encoding)
    together = encoding.encode(found, items)
    parts = [encoding.encode(select(found, np.array([row])), items) for row in range(len(found.counts["candidate"]))]
    for name, ids in together.ids.items():
        assert torch.equal(ids, torch.cat([part.ids[name] for part in parts])), name


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 5))
def test_histories_keep_the_newest_and_pad_in_front(counts: list[int], length: int) -> None:
    sizes = np.array(counts)
    values = np.concatenate([np.arange(1, n + 1) for n in counts]) if sum(counts) else np.empty(0, int)
    keep, left = newest(sizes, length)
    padded, masked = pad(torch.from_numpy(values[keep]), torch.from_numpy(left)), mask(torch.from_numpy(left))
    for row, n in enumerate(counts):
        wanted = list(range(1, n + 1))[-length:]
        assert padded[row].tolist() == [0] * (padded.shape[1] - len(wanted)) + wanted
        assert masked[row].sum() == len(wanted)


def _stream(window: Window, encoding: Encoding, **values: Any) -> Stream:
    part = RequestSlice(tuple(window.training), **values.pop("part", {}))
    items = item_table(window.folder / "items.parquet", encoding)
    return Stream(part, encoding, items, 8, **values)


def _told(step: Step) -> tuple[Any, ...]:
    ids = step.encoded.ids
    return (ids["item_id"].tolist(), ids["user_id"].tolist(), step.encoded.labels["cvr"].tolist(), step.done)


def test_resume_gives_the_next_batch(window: Window, encoding: Encoding) -> None:
    stream = _stream(window, encoding, seed=3, part={"negatives_kept": 0.4})
    whole = list(stream.epoch())
    for stop in (1, len(whole) // 2, len(whole) - 1):
        rest = list(stream.epoch(whole[stop - 1].after))
        assert [_told(step) for step in rest] == [_told(step) for step in whole[stop:]]
    assert not list(stream.epoch(whole[-1].after))
    assert whole[-1].done == stream.total()


def test_order_depends_on_seed_and_epoch_alone(window: Window, encoding: Encoding) -> None:
    first = [_told(s) for s in _stream(window, encoding, seed=1).epoch()]
    assert first == [_told(s) for s in _stream(window, encoding, seed=1).epoch()]
    assert first != [_told(s) for s in _stream(window, encoding, seed=2).epoch()]
    assert first != [_told(s) for s in _stream(window, encoding, seed=1).epoch(Position(epoch=1))]


def test_workers_share_the_same_batches(window: Window, encoding: Encoding) -> None:
    alone = list(_stream(window, encoding, seed=5).epoch())
    shares = [list(_stream(window, encoding, seed=5, rank=rank, workers=2).epoch()) for rank in (0, 1)]
    for whole, first, second in zip(alone, *shares, strict=True):
        parts = (first.encoded.ids["user_id"], second.encoded.ids["user_id"])
        if whole.requests > 1:
            assert sorted(whole.encoded.ids["user_id"].tolist()) == sorted(torch.cat(parts).tolist())
            assert first.weight + second.weight == pytest.approx(2)
        assert first.after == second.after == whole.after


def test_time_bounds_and_maturity(window: Window, encoding: Encoding, made: Made) -> None:
    times = np.concatenate([chunk.column("event_time") for chunk in chunks(window.training, ["event_time"], 99)])
    middle = int(np.median(times))
    early, late = ({"end": middle}, {"start": middle})
    count = [_stream(window, encoding, part=part).total() for part in (early, late)]
    assert sum(count) == len(times) and count[0] == (times < middle).sum()
    day_d = Stream(
        RequestSlice(tuple(window.evaluation)), encoding, item_table(window.folder / "items.parquet", encoding), 8
    )
    assert day_d.total() == 0, "immature requests are left out, not taken for negatives"
    replayed = _stream(window, encoding, part={"replay_before": middle, "replay_share": 0.2}).total()
    assert count[1] < replayed < len(times)


def test_thinning_keeps_positives_and_a_share_of_negatives(window: Window, encoding: Encoding) -> None:
    def labels(share: float) -> torch.Tensor:
        steps = _stream(window, encoding, part={"negatives_kept": share}).epoch()
        return torch.cat([step.encoded.labels["cvr"] for step in steps])

    whole, thin = labels(1.0), labels(0.3)
    assert thin.sum() == whole.sum()
    share = float((thin == 0).sum() / (whole == 0).sum())
    assert share == pytest.approx(0.3, abs=0.06)


def test_thinning_is_made_up_for() -> None:
    """With negatives at share w the best constant logit is the true one − ln w."""
    positives, negatives, share = 300.0, 9700.0, 0.2
    thinned = math.log(positives / (negatives * share))
    assert thinned + math.log(share) == pytest.approx(math.log(positives / negatives))


def test_thinning_depends_on_request_and_item_alone() -> None:
    requests, items = np.array(["a", "a", "b"], object), np.array(["x", "y", "x"], object)
    positive = np.array([True, False, False])
    first = kept(requests, items, positive, 0.5)
    assert first[0] and (first == kept(requests, items, positive, 0.5)).all()
    reversed_ = kept(requests[::-1], items[::-1], positive[::-1], 0.5)
    assert (reversed_[::-1] == first).all()


def test_share_of_negatives() -> None:
    assert share_of_negatives(10, 1000, settings(negatives_per_positive=4.0)) == pytest.approx(0.04)
    assert share_of_negatives(10, 1000, settings(max_candidates=210)) == pytest.approx(0.2)
    assert share_of_negatives(10, 20, settings(negatives_per_positive=4.0)) == 1
    with pytest.raises(UsageError, match="one task only"):
        share_of_negatives(10, 1000, settings(negatives_kept=0.5, tasks=("cvr", "ctr")))


def test_both_tasks_have_labels(window: Window) -> None:
    both = derive(window, settings(tasks=("cvr", "ctr")), None)[0]
    step = next(iter(_stream(window, both).epoch()))
    assert set(step.encoded.labels) == {"cvr", "ctr"}
    assert (step.encoded.labels["ctr"] >= step.encoded.labels["cvr"]).all()


def test_limit_spreads_evenly(window: Window, encoding: Encoding) -> None:
    stream = _stream(window, encoding, part={"limit": 10}, shuffle=False)
    assert 5 <= stream.total() <= 15
    assert sum(step.requests for step in stream.epoch()) == stream.total()
