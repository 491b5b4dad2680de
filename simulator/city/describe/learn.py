"""What can be learnt from the window about the day after it, by a library's gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.city.choice import examination
from simulator.city.describe.appeal import FOLDS, personal_appeal
from simulator.city.describe.content import ContentVectors
from simulator.city.describe.record import BASE, CATEGORICAL, TRUE, Array, Columns, Recorder, Seen

Table = NDArray[np.float32]
TEXT_PARTS, IMAGE_PARTS = 24, 32


def expected_auc(score: Array, chance: Array) -> float:
    """AUC expected over all labels that the true probabilities could have drawn.

    Every row counts as a positive with its probability and as a negative with the rest, which takes the chance of the
    draw, not that of the rows, out of the figure.

    Args:
        score: Scores.
        chance: True probabilities of purchase at the position shown.
    """
    from sklearn.metrics import roc_auc_score

    count = len(score)
    return float(
        roc_auc_score(
            np.r_[np.ones(count), np.zeros(count)], np.r_[score, score], sample_weight=np.r_[chance, 1 - chance]
        )
    )


def realised_auc(score: Array, bought: Array) -> float:
    """AUC on what was bought; nan where all or nothing was."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(bought, score)) if 0 < bought.sum() < len(bought) else float("nan")


@dataclass
class Modality:
    """One modality's vectors of the listings: principal parts, a fitted appeal, category odds, and profiles' room."""

    wide: Table  # [M, 128]; 0 where there is no content
    parts: Table  # [M, K]
    within: Table  # [M, K], unit length, the category's mean taken off: what differs within a category
    appeal: Array  # [M] out of fold
    odds: Array  # [M, C] log probability of each category, out of fold

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which listings have this content."""
        return ~np.isnan(self.parts[:, 0])


def modality(vectors: Table, keep: int, declared: Array, looks: Array, sold: Array, seed: int) -> Modality:
    """Bring a modality's frozen vectors to a few columns, from the window's data alone.

    Args:
        vectors: [M, D]; rows of nan where the content is missing.
        keep: Principal components kept.
        declared: Category fields of the listings, [M].
        looks: Times each was shown in the window, [M]; 0 for listings of the test day.
        sold: Times each was bought in the window, [M].
        seed: Of folds and components.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression, Ridge

    known = np.asarray(np.isfinite(vectors).all(axis=1))
    mean, spread = vectors[known].mean(axis=0), vectors[known].std(axis=0) + 1e-6
    scaled = np.where(known[:, None], (vectors - mean) / spread, 0.0).astype(np.float32)
    pca = PCA(128, svd_solver="randomized", random_state=seed).fit(scaled[known])
    wide = (pca.transform(scaled) / np.sqrt(pca.explained_variance_)).astype(np.float32)
    wide[~known] = 0.0
    parts = wide[:, :keep].copy()
    parts[~known] = np.nan
    within = np.zeros_like(wide)
    for category in np.unique(declared):
        mine = (declared == category) & known
        within[mine] = pca.transform(scaled[mine]) - pca.transform(scaled[mine]).mean(axis=0, keepdims=True)
    within /= np.linalg.norm(within, axis=1, keepdims=True) + 1e-6
    rng = np.random.default_rng(seed)
    fold = rng.integers(0, FOLDS, len(vectors))
    rate = sold.sum() / max(looks.sum(), 1.0)
    target = np.log((sold + 20 * rate) / (looks + 20) / rate)
    appeal = np.zeros(len(vectors))
    odds = np.full((len(vectors), int(declared.max()) + 1), np.nan, dtype=np.float32)
    for part in range(FOLDS):
        fit, use = known & (fold != part) & (looks > 0), known & (fold == part)
        appeal[use] = (
            Ridge(alpha=60.0)
            .fit(wide[fit], target[fit], sample_weight=looks[fit] / looks[fit].mean())
            .predict(wide[use])
        )
        model = LogisticRegression(C=0.05, max_iter=40).fit(wide[fit], declared[fit])
        odds[np.ix_(use, model.classes_)] = model.predict_log_proba(wide[use])
    appeal[~known] = np.nan
    return Modality(wide, parts, within.astype(np.float32), appeal, odds)


def profile_columns(recorder: Recorder, content: ContentVectors, kind: Modality, rows: Columns) -> Table:
    """Likeness of candidates to what the shopper bought before the day: in the category, and overall; [R, 4]."""
    width = kind.within.shape[1]
    declared = np.array([recorder.seen[int(serial)].declared for serial in content.serials])
    out = np.full((len(rows["serial"]), 4), np.nan, dtype=np.float32)
    shoppers = int(max(rows["shopper"].max(), max(int(s.max()) for _, s, _, _ in recorder.sales if len(s)))) + 1
    mean_UCD = np.zeros((shoppers * recorder.config.categories, width), dtype=np.float32)
    done = 0
    sales = sorted(recorder.sales, key=lambda sale: sale[0])
    for day in np.unique(rows["day"]).tolist():
        while done < len(sales) and sales[done][0] < day:
            _, who, serials, category = sales[done]
            at = content.rows(serials)
            use = (at >= 0) & kind.known[at]
            np.add.at(mean_UCD, who[use] * recorder.config.categories + category[use], kind.within[at[use]])
            done += 1
        today = np.flatnonzero(rows["day"] == day)
        at = content.rows(rows["serial"][today])
        vectors = np.where((at >= 0)[:, None], kind.within[at], 0.0)
        key = rows["shopper"][today] * recorder.config.categories + declared[at]
        own = mean_UCD[key]
        norm = np.linalg.norm(own, axis=1)
        like = np.einsum("rd,rd->r", own, vectors)
        overall = mean_UCD.reshape(shoppers, -1, width).sum(axis=1)
        all_norm = np.linalg.norm(overall, axis=1)
        all_like = np.einsum("rd,rd->r", overall[rows["shopper"][today]], vectors)
        out[today, 0], out[today, 1] = like, np.where(norm > 0, like / (norm + 1e-6), np.nan)
        out[today, 2] = all_like / (all_norm[rows["shopper"][today]] + 1e-6)
        out[today, 3] = norm
    return out


def content_columns(recorder: Recorder, content: ContentVectors, kind: Modality, rows: Columns) -> tuple[Table, Array]:
    """Columns of one modality for rows, and the rows of their listings."""
    at = content.rows(rows["serial"])
    declared = np.array([recorder.seen[int(serial)].declared for serial in content.serials])
    sure = kind.odds[at, declared[at]]
    columns = [kind.parts[at], kind.appeal[at][:, None], sure[:, None], profile_columns(recorder, content, kind, rows)]
    table = np.concatenate(columns, axis=1).astype(np.float32)
    table[at < 0] = np.nan
    return table, at


def agreement(text: Modality, image: Modality, at: Array) -> Table:
    """How far text and photo seem to show the same category, [R, 1]."""
    both = np.exp(np.nan_to_num(text.odds[at], nan=-20.0)) * np.exp(np.nan_to_num(image.odds[at], nan=-20.0))
    value = np.log(both.sum(axis=1) + 1e-4)
    return np.where(text.known[at] & image.known[at], value, np.nan)[:, None].astype(np.float32)


def fit(
    table: Table, bought: Array, weight: Array, names: tuple[str, ...], seed: int, threads: int
) -> Callable[..., Array]:
    """Gradient-boosted trees; `position` is a feature in training and 0 afterwards."""
    import lightgbm

    categorical = [place for place, name in enumerate(names) if name in CATEGORICAL]
    data = lightgbm.Dataset(table, bought, weight=weight, categorical_feature=categorical, free_raw_data=True)
    options = {
        "objective": "binary", "learning_rate": 0.06, "num_leaves": 31, "min_data_in_leaf": 150, "lambda_l2": 5.0,
        "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "cat_smooth": 30.0,
        "min_data_per_group": 200, "max_bin": 127, "num_threads": threads, "seed": seed, "verbosity": -1,
        "deterministic": True, "force_col_wise": True,
    }  # fmt: skip
    booster = lightgbm.train(options, data, num_boost_round=220)
    position = names.index("position")

    def score(rows: Table, as_shown: bool = False) -> Array:
        rows = rows.copy()
        rows[:, position] = rows[:, position] if as_shown else 0.0
        return np.asarray(booster.predict(rows, num_threads=threads))

    return score


@dataclass
class Learnt:
    """Figures of one seed: `auc[model][population]`, purchases a request by ranking, seconds."""

    auc: dict[str, dict[str, float]]
    purchases: dict[str, float]
    paired: dict[str, tuple[float, float, float]]  # difference of two rankings, 95% interval over requests


def compare(recorder: Recorder, content: ContentVectors | None, seed: int, threads: int = 1) -> Learnt:
    """Fit and judge every model.

    Args:
        recorder: The city, lived through window and test day.
        content: Vectors of the listings; without them there are no models with text or image.
        seed: Of the models.
        threads: For the trees.
    """
    train, test, rank = recorder.train.joined(), recorder.test.joined(), recorder.rank.joined()
    weight = np.where(train["bought"] == 1, 1.0, 3.0)
    sets = (train, test, rank)
    extra: dict[str, list[Table]] = {}
    if content is not None:
        plain = fit(train["base"], train["bought"], weight, BASE, seed, threads)
        residual = train["bought"] - plain(train["base"], as_shown=True)
        extra = _extra(recorder, content, sets, residual, weight, seed)
    models: dict[str, tuple[str, ...]] = {"ids": ()}
    if content is not None:
        models |= {"ids+text": ("text",), "ids+image": ("image",), "ids+text+image": ("text", "image", "agree")}
    scores: dict[str, tuple[Array, Array]] = {}
    for name, kinds in models.items():
        tables = [
            np.concatenate([part["base"], *(extra[kind][i] for kind in kinds)], axis=1) for i, part in enumerate(sets)
        ]
        names = BASE + tuple(f"{kind}{i}" for kind in kinds for i in range(extra[kind][0].shape[1]))
        model = fit(tables[0], train["bought"], weight, names, seed, threads)
        scores[name] = model(tables[1]), model(tables[2])
    tables = [np.concatenate([part["base"], part["true"]], axis=1) for part in sets]
    model = fit(tables[0], train["bought"], weight, BASE + TRUE, seed, threads)
    scores["true attributes"] = model(tables[1]), model(tables[2])
    if recorder.tenfold:
        more = recorder.more.joined()
        table = np.concatenate([tables[0], np.concatenate([more["base"], more["true"]], axis=1)])
        weights = np.r_[weight, np.where(more["bought"] == 1, 1.0, 10.0)]
        model = fit(table, np.r_[train["bought"], more["bought"]], weights, BASE + TRUE, seed, threads)
        scores["true attributes, 10x data"] = model(tables[1]), model(tables[2])
    sold = BASE.index("item_sold")
    scores["popularity"] = test["base"][:, sold], rank["base"][:, sold]
    scores["oracle"] = test["relevance"], rank["relevance"]
    return _judge(recorder, scores, test, rank)


def _extra(
    recorder: Recorder,
    content: ContentVectors,
    sets: tuple[Columns, ...],
    residual: Array,
    weight: Array,
    seed: int,
) -> dict[str, list[Table]]:
    train = sets[0]
    at = content.rows(train["serial"])
    declared = np.array([recorder.seen[int(serial)].declared for serial in content.serials])
    looks, sold = np.zeros(len(declared)), np.zeros(len(declared))
    np.add.at(looks, at[at >= 0], np.where(train["bought"][at >= 0] == 1, 1.0, 3.0))
    np.add.at(sold, at[at >= 0], train["bought"][at >= 0])
    text = modality(content.text, TEXT_PARTS, declared, looks, sold, seed)
    image = modality(content.image, IMAGE_PARTS, declared, looks, sold, seed)
    extra: dict[str, list[Table]] = {"text": [], "image": [], "agree": []}
    rows_of = [content.rows(part["serial"]) for part in sets]
    mine = {
        name: personal_appeal(kind.wide, rows_of, sets, residual, weight, seed)
        for name, kind in (("text", text), ("image", image))
    }
    for place, part in enumerate(sets):
        for name, kind in (("text", text), ("image", image)):
            columns, _ = content_columns(recorder, content, kind, part)
            extra[name].append(np.concatenate([columns, mine[name][place]], axis=1))
        extra["agree"].append(agreement(text, image, rows_of[place]))
    return extra


def _judge(recorder: Recorder, scores: dict[str, tuple[Array, Array]], test: Columns, rank: Columns) -> Learnt:
    young = test["young"]
    auc = {
        name: {
            "all": expected_auc(score, test["purchase"]),
            "new": expected_auc(score[young], test["purchase"][young]),
            "realised": realised_auc(score, test["bought"]),
        }
        for name, (score, _) in scores.items()
    }
    wide, shown = recorder.config.candidates, recorder.config.shown
    relevance = rank["relevance"].reshape(-1, wide)
    looked = examination(recorder.config, np.arange(shown))
    each = {"random": relevance.mean(axis=1) * looked.sum()}
    for name, (_, score) in scores.items():
        order = np.argsort(-score.reshape(-1, wide), axis=1, kind="stable")[:, :shown]
        each[name] = np.take_along_axis(relevance, order, axis=1) @ looked
    paired = {}
    for better, worse in (("popularity", "random"), ("ids", "popularity"), ("oracle", "popularity"),
                          ("ids+text+image", "ids")):  # fmt: skip
        if better in each:
            paired[f"{better} - {worse}"] = _interval(each[better] - each[worse])
    return Learnt(auc, {name: float(value.mean()) for name, value in each.items()}, paired)


def _interval(differences: Array) -> tuple[float, float, float]:
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(len(differences)))
    return mean, mean - 1.96 * error, mean + 1.96 * error


def listings_of(recorder: Recorder, days_before: int = 10) -> list[int]:
    """Listings worth encoding: shown in the window or on the test day, or bought not long before."""
    wanted: set[int] = set()
    for rows in (recorder.train, recorder.test, recorder.rank):
        for part in rows.serial:
            wanted |= set(part.tolist())
    for day, _, serials, _ in recorder.sales:
        if day >= -days_before:
            wanted |= set(serials.tolist())
    return sorted(wanted)


__all__ = ["Learnt", "Seen", "compare", "expected_auc", "fit", "listings_of", "realised_auc"]
