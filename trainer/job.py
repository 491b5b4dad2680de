"""A training: what it reads, where it starts from, and the inputs it derives once before the workers start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from features import atomic
from features.configuration import read, to_plain
from features.encoded import JsonObject
from features.errors import DataError, UsageError
from trainer.data.derive import Scan, derive, item_table
from trainer.data.stream import RequestSlice, Stream
from trainer.data.thinning import share_of_negatives
from trainer.data.window import Window
from trainer.recipes import checked_recipe
from trainer.runtime.encoding import Encoding, Items
from trainer.runtime.models.recipe import ModelRecipe, plain
from trainer.runtime.models.registry import model_class
from trainer.runtime.models.schema import ContentWidths
from trainer.runtime.scorer import FORMAT as BUNDLE_FORMAT
from trainer.runtime.scorer import load_items, save_items
from trainer.settings import TrainSettings
from trainer.tokens import TokenStore

FORMAT = 5  # counted up when the same job would end in other weights, or its checkpoints look otherwise


@dataclass(frozen=True)
class Job:
    """What to train.

    Args:
        window: Folder of the window.
        tokens: Folder of the content tokens, or None.
        checkpoints: Folder of all checkpoints.
        model: Registered name.
        recipe: Its recipe.
        settings: Settings of training.
        incumbent: Folder of the bundle to start from, or None.
        log: Folder for TensorBoard, or None.
    """

    window: str
    tokens: str | None
    checkpoints: str
    model: str
    recipe: ModelRecipe
    settings: TrainSettings
    incumbent: str | None = None
    log: str | None = None

    @property
    def id(self) -> str:
        """Identity: the same inputs give the same training."""
        said = self.to_json()
        said |= {"window": Path(self.window).name, "format": FORMAT, "log": None, "checkpoints": None}
        said["tokens"] = Path(self.tokens).name if self.tokens else None
        said["incumbent"] = Path(self.incumbent).name if self.incumbent else None
        said["settings"] = {k: v for k, v in said["settings"].items() if k not in ("recipe", "model", "threads")}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """Where the training keeps its inputs and checkpoints."""
        return Path(self.checkpoints) / self.id

    def to_json(self) -> JsonObject:
        """As JSON: recipe and settings with all their fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"recipe": plain(self.recipe), "settings": to_plain(self.settings)}

    def save(self, path: Path) -> None:
        """Write the job as JSON."""
        atomic.write_text(path, json.dumps(self.to_json(), indent=1))

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read what `save` wrote.

        Raises:
            DataError: If the file is damaged, or of a version with other recipes or settings.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            recipe = checked_recipe(found["model"], found["recipe"])
            settings = read(TrainSettings, found["settings"])
            return cls(**found | {"recipe": recipe, "settings": settings})
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise DataError(
                f"the job of a training cannot be read ({error})",
                field="file",
                value=str(path),
                remedy="run `freshrank train` for the day again",
            ) from error


@dataclass(frozen=True)
class TrainingPlan:
    """What preparation found.

    Args:
        start: Time of the first request of the window, µs.
        new_from: Requests before it are older ones, replayed in part; 0 where everything is new.
        valid_from: Where the held-out last tenth begins; nothing from there on is trained on.
        end: Time after the last request.
        negatives_kept: Share of negatives kept.
        epochs: Epochs at most.
        warm: Whether the weights start from the incumbent's.
        warm_start_reason: Why, or why not.
    """

    start: int
    new_from: int
    valid_from: int
    end: int
    negatives_kept: float
    epochs: int
    warm: bool
    warm_start_reason: str

    def training(self, files: tuple[Path, ...], settings: TrainSettings) -> RequestSlice:
        """The requests to train on."""
        return RequestSlice(
            files,
            self.start,
            self.valid_from,
            replay_before=self.new_from if self.warm else 0,
            replay_share=settings.replay_share,
            negatives_kept=self.negatives_kept,
        )

    def validation(self, files: tuple[Path, ...], settings: TrainSettings) -> RequestSlice:
        """The held-out requests, which validation runs score."""
        kept, limit = self.negatives_kept, settings.validation_requests
        return RequestSlice(files, self.valid_from, self.end, negatives_kept=kept, limit=limit)


@dataclass(frozen=True)
class Prepared:
    """A prepared training, read back.

    Args:
        encoding: What the model reads.
        items: The item table.
        plan: The plan.
        texts: Content hashes of texts that candidates had.
        images: Content hashes of photos that candidates had.
    """

    encoding: Encoding
    items: Items
    plan: TrainingPlan
    texts: list[str]
    images: list[str]

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read `inputs/` of a training."""
        found = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        return cls(
            Encoding.load(folder), load_items(folder), TrainingPlan(**found["plan"]), found["texts"], found["images"]
        )


def prepare(job: Job) -> Prepared:
    """Derive a training's inputs, once: schema, vocabularies, edges, item table, plan.

    Args:
        job: The job.

    Returns:
        The inputs.

    Raises:
        DataError: If the window has no request to train on.
    """
    folder = job.folder / "inputs"
    if not folder.exists():
        window, settings = Window(Path(job.window)), job.settings
        content = TokenStore(Path(job.tokens)).widths if job.tokens else None
        before, why = _incumbent(job, content)
        full, seen = derive(window, settings, content, before)
        if not seen.mature:
            raise _nothing(window, seen)
        kind = model_class(job.model)
        encoding = full.narrowed(kind.reads(full.schema, job.recipe))
        if before and (difference := _difference(before, encoding)):
            before, why = None, difference
            full, seen = derive(window, settings, content)
            encoding = full.narrowed(kind.reads(full.schema, job.recipe))
        trained_until = (
            json.loads((Path(job.incumbent) / "bundle.json").read_text(encoding="utf-8"))["trained_until"]
            if (before and job.incumbent)
            else 0
        )
        plan, items = _plan(seen, settings, trained_until, why), item_table(window.folder / "items.parquet", encoding)
        training = plan.training(tuple(window.training), settings)
        if not Stream(training, encoding, items, settings.requests_per_batch, seed=settings.seed).total():
            raise _nothing(window, seen)
        with atomic.new_folder(folder) as work:
            encoding.save(work)
            save_items(work, items)
            found = {"plan": asdict(plan), "texts": sorted(seen.texts), "images": sorted(seen.images)}
            (work / "plan.json").write_text(json.dumps(found), encoding="utf-8")
    return Prepared.load(folder)


def _nothing(window: Window, seen: Scan) -> DataError:
    few = "ingest and label more requests: it trains on those before the last tenth of the window's time"
    unripe = "build it with a labels.horizon_hours that is shorter than the window"
    return DataError(
        "the window has no request to train on",
        field="window",
        value=f"{window.id}: {seen.requests} requests in its training days, {seen.mature} of them mature",
        remedy=few if seen.mature or not seen.requests else unripe,
    )


def _plan(seen: Scan, settings: TrainSettings, trained_until: int, why: str) -> TrainingPlan:
    end, warm = seen.last_time + 1, trained_until > 0
    new_from = seen.first_time
    if warm:
        # nothing new since the incumbent: go over the newest tenth again rather than over nothing
        new_from = trained_until if seen.first_time <= trained_until < end else seen.first_time
    valid_from = new_from + (end - new_from) * 9 // 10
    share = share_of_negatives(seen.positives, seen.negatives, settings)
    epochs = 1 if warm else settings.epochs
    return TrainingPlan(seen.first_time, new_from, valid_from, end, share, epochs, warm, why)


def _incumbent(job: Job, content: ContentWidths | None) -> tuple[Encoding | None, str]:
    """The incumbent's encoding where its weights can be carried on, and why (not)."""
    if job.incumbent is None:
        return None, "no incumbent"
    folder = Path(job.incumbent)
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    if info.get("format") != BUNDLE_FORMAT:
        return None, "the incumbent is a bundle of another format"
    if info["model"] != job.model:
        return None, f"the incumbent is a {info['model']}"
    if checked_recipe(job.model, json.loads((folder / "recipe.json").read_text(encoding="utf-8"))) != job.recipe:
        return None, "the incumbent has another recipe"
    before = Encoding.load(folder)
    if before.content is not None and before.content != content:
        return None, "the incumbent knows another encoder's tokens"
    if info.get("encoder") != (Path(job.tokens).name if job.tokens else None):
        return None, "the incumbent knows another encoder's tokens"
    return before, f"from {folder.name}"


def _difference(before: Encoding, now: Encoding) -> str | None:
    """Why weights cannot be carried from one encoding to the other, or None where they can."""
    if before.tasks != now.tasks or before.lengths != now.lengths:
        return "the incumbent has other tasks or lengths of histories"
    plain_before, plain_now = ([replace(f, column="") for f in e.fields] for e in (before, now))
    return None if plain_before == plain_now else "the incumbent has other features"
