"""Batches from a window: time-ordered chunks, shuffled inside, thinned, split over workers, resumable at any batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trainer.data.derive import CHUNK
from trainer.data.thinning import kept, uniform
from trainer.data.window import KEYS, LABELS, Chunk, chunks, raw, select
from trainer.runtime.encoding import I64, Encoded, Encoding, Items, Raw


@dataclass(frozen=True)
class RequestSlice:
    """Which requests of a window to read, and how.

    Args:
        files: Parquet files in time order.
        start: First time of the requests, µs.
        end: Time after the last, µs.
        replay_before: Requests before this time are older ones, of which a share is replayed; 0: there are none.
        replay_share: Share of older requests, chosen by the hash of the request and the seed.
        negatives_kept: Share of negatives kept.
        mature_only: Leave out requests whose horizon had not passed, so that no label is silently negative.
        limit: Requests to read at most, evenly spaced; 0: all.
    """

    files: tuple[Path, ...]
    start: int = 0
    end: int = 2**62
    replay_before: int = 0
    replay_share: float = 1.0
    negatives_kept: float = 1.0
    mature_only: bool = True
    limit: int = 0


@dataclass(frozen=True)
class Position:
    """Where in the order of batches to go on.

    Args:
        epoch: Epoch, from 0.
        chunk: Chunk of the epoch.
        batch: Batch of the chunk.
    """

    epoch: int = 0
    chunk: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Step:
    """A batch of one worker.

    Args:
        encoded: Its indices and labels.
        weight: What this worker's mean loss must be multiplied with so that the mean over workers is the mean over all
            candidates of the batch.
        after: Where the next batch is.
        done: Requests of the epoch read so far, those of the batch included.
        requests: Requests of the whole batch, all workers.
        candidates: Candidates of the whole batch, all workers.
        request_ids: Ids of this worker's requests, [B].
        batch_ids: Ids of the whole batch's requests, all workers.
    """

    encoded: Encoded
    weight: float
    after: Position
    done: int
    requests: int
    candidates: int
    request_ids: list[str]
    batch_ids: list[str]


class Stream:
    """The batches of a slice, for one of some workers.

    Args:
        part: Which requests.
        encoding: What the model reads.
        items: The item table.
        requests_per_batch: Requests of a batch over all workers.
        seed: Seed of the order.
        rank: This worker.
        workers: All of them; batches are the same for any number.
    """

    def __init__(
        self,
        part: RequestSlice,
        encoding: Encoding,
        items: Items,
        requests_per_batch: int,
        *,
        seed: int = 0,
        rank: int = 0,
        workers: int = 1,
        shuffle: bool = True,
    ) -> None:
        self.part, self.encoding, self.items = part, encoding, items
        self.size, self.seed, self.rank, self.workers, self.shuffle = requests_per_batch, seed, rank, workers, shuffle
        self._raw_columns = list(encoding.columns())
        wanted = {*self._raw_columns, *KEYS, "cand_item"}
        self._columns = sorted(wanted | {LABELS[task] for task in encoding.tasks})
        self._stride = 1
        if part.limit:
            self._stride = max(1, -(-self._count() // part.limit))

    def total(self) -> int:
        """Requests of an epoch, from times alone (a request that thinning leaves empty counts)."""
        return self._count()

    def epoch(self, at: Position = Position()) -> Iterator[Step]:
        """The batches of one epoch, from a position on.

        Args:
            at: Where to begin; `epoch` decides the order.
        """
        done = self._before(at.chunk)
        for chunk in chunks(self.part.files, self._columns, CHUNK, at.chunk):
            rows = self._rows(chunk)
            first = at.batch if chunk.index == at.chunk else 0
            yield from self._batches(chunk, rows, at.epoch, first, done)
            done += len(rows)

    def _batches(self, chunk: Chunk, rows: I64, epoch: int, first: int, done: int) -> Iterator[Step]:
        found = raw(chunk, [*sorted({*self._columns} - set(KEYS)), "event_time"])
        candidates, names = self._thin(chunk, found), chunk.column("request_id")
        left = np.bincount(
            np.repeat(np.arange(len(found.counts["candidate"])), found.counts["candidate"])[candidates],
            minlength=len(found.counts["candidate"]),
        )
        skipped, rows = len(rows), rows[left[rows] > 0]
        skipped -= len(rows)
        if self.shuffle:
            rows = np.random.default_rng((self.seed, epoch, chunk.index)).permutation(rows)
        parts = [rows[start : start + self.size] for start in range(0, len(rows), self.size)]
        for number, part in enumerate(parts):
            if number < first:
                continue
            own = part[self.rank :: self.workers]
            if len(part) < self.workers:
                own = part  # too few to share out: every worker takes them all, and the mean is the same
            last = number == len(parts) - 1
            after = Position(epoch, chunk.index + 1, 0) if last else Position(epoch, chunk.index, number + 1)
            size, mine = int(left[part].sum()), int(left[own].sum())
            weight = mine * self.workers / size if len(part) >= self.workers else 1.0
            read = done + skipped + number * self.size + len(part)
            encoded = self._encode(select(found, own, candidates))
            ids = names[own].tolist(), names[part].tolist()
            yield Step(encoded, weight, after, read, len(part), size, *ids)

    def _encode(self, found: Raw) -> Encoded:
        encoded = self.encoding.encode(found, self.items)
        labels = {
            task: torch.from_numpy((found.columns[LABELS[task]] > 0).astype(np.float32)) for task in self.encoding.tasks
        }
        return replace(encoded, labels=labels)

    def _thin(self, chunk: Chunk, found: Raw) -> npt.NDArray[np.bool_]:
        items = found.columns["cand_item"]
        if self.part.negatives_kept >= 1:
            return np.ones(len(items), dtype=bool)
        requests = np.repeat(chunk.column("request_id"), found.counts["candidate"])
        positive = found.columns[LABELS[self.encoding.tasks[0]]] > 0
        return kept(requests, items, positive, self.part.negatives_kept)

    def _rows(self, chunk: Chunk) -> I64:
        part, times = self.part, chunk.column("event_time")
        wanted = (times >= part.start) & (times < part.end)
        if part.mature_only:
            wanted &= chunk.column("mature")
        if part.replay_before and part.replay_share < 1:
            names = chunk.column("request_id")
            for row in np.flatnonzero(wanted & (times < part.replay_before)):
                wanted[row] = uniform("replay", str(self.seed), names[row]) < part.replay_share
        rows = np.flatnonzero(wanted)
        return rows[(rows + chunk.index * CHUNK) % self._stride == 0] if self._stride > 1 else rows

    def _count(self) -> int:
        keys = ["request_id", "event_time", "mature"]
        return sum(len(self._rows(chunk)) for chunk in chunks(self.part.files, keys, CHUNK))

    def _before(self, chunk: int) -> int:
        keys = ["request_id", "event_time", "mature"]
        counts = (len(self._rows(c)) for c in chunks(self.part.files, keys, CHUNK) if c.index < chunk)
        return sum(counts) if chunk else 0
