"""What content adds for a shopper of some profile: a ridge over vectors times profile, out of fold by listing."""

from __future__ import annotations

import numpy as np

from simulator.city.describe.record import BASE, Array, Columns

FOLDS = 5
CHUNK = 8192
PROFILE = [BASE.index(name) for name in ("income", "age_band", "household")]
MEAN, SPREAD = np.array([1.0, 1.5, 2.46]), np.array([0.74, 1.12, 1.23])


def personal_appeal(
    vectors: Array, rows_of: list[Array], sets: tuple[Columns, ...], residual: Array, weight: Array, seed: int
) -> list[Array]:
    """Fit on the first set, predict all.

    Args:
        vectors: Of the listings, [M, K]; 0 where there is no content.
        rows_of: For each set the row of each candidate's listing, [R].
        sets: Candidates, with `base` columns.
        residual: Bought, less what the model without content says; of the first set.
        weight: Of the first set.
        seed: Of the folds.

    Returns:
        A column for each set.
    """
    fold = np.random.default_rng(seed + 1).integers(0, FOLDS, len(vectors))
    vectors = (vectors / np.sqrt(vectors.shape[1])).astype(np.float32)
    size = (1 + len(PROFILE)) * vectors.shape[1]

    def crossed(place: int, use: slice) -> tuple[Array, Array]:
        at = rows_of[place][use]
        who = (sets[place]["base"][use][:, PROFILE] - MEAN) / SPREAD
        profile = np.concatenate([np.ones((len(at), 1)), who], axis=1).astype(np.float32)
        return (profile[:, :, None] * vectors[at][:, None, :]).reshape(len(at), size), fold[at]

    gram, moment = np.zeros((FOLDS, size, size)), np.zeros((FOLDS, size))
    for start in range(0, len(residual), CHUNK):
        use = slice(start, start + CHUNK)
        table, part = crossed(0, use)
        for one in range(FOLDS):
            mine = part == one
            scaled = table[mine] * weight[use][mine][:, None].astype(np.float32)
            gram[one] += scaled.T @ table[mine]
            moment[one] += scaled.T @ residual[use][mine]
    ridge = 0.2 * np.trace(gram.sum(axis=0)) / size * np.eye(size)
    slopes = np.stack(
        [
            np.linalg.solve(gram.sum(axis=0) - gram[one] + ridge, moment.sum(axis=0) - moment[one])
            for one in range(FOLDS)
        ]
    )
    columns = []
    for place, rows in enumerate(sets):
        column = np.zeros((len(rows["serial"]), 1), dtype=np.float32)
        for start in range(0, len(column), CHUNK):
            use = slice(start, start + CHUNK)
            table, part = crossed(place, use)
            for one in range(FOLDS):
                mine = part == one
                column[use][mine, 0] = table[mine] @ slopes[one].astype(np.float32)
        columns.append(column)
    return columns
