"""Bundles: everything that makes a score, in one immutable folder named by its content."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from features import atomic
from features.errors import DataError, NotReadyError
from features.scratch import scratch
from trainer.checkpoints import Checkpoints, read_full
from trainer.data.window import Window, chunks
from trainer.embeddings.sharded import table_name
from trainer.embeddings.warm import SUMS
from trainer.finite import weights_fault
from trainer.job import Job, Prepared
from trainer.probes import choose, not_finite, outputs_of, write_probes
from trainer.result import Result
from trainer.runtime.encoding import Encoding, Items
from trainer.runtime.errors import BundleError, FieldError
from trainer.runtime.lookup import tables
from trainer.runtime.models.recipe import plain
from trainer.runtime.models.registry import model_class
from trainer.runtime.scorer import FORMAT, Scorer, inputs_of, read_info, save_items
from trainer.tokens import TokenStore, copy_tokens


def make_bundle(job: Job, bundles: Path) -> str:
    """Bundle a finished training.

    Args:
        job: The training.
        bundles: Folder of all bundles.

    Returns:
        The bundle's id.

    Raises:
        NotReadyError: If the training has not finished.
        DataError: If a weight, or a score of a probe, is not finite, or there is no request to probe it with.
    """
    noted = job.folder / "bundle.json"
    if not Result.file(job.folder).exists():
        raise NotReadyError(
            "the training has not finished", field="train", value=job.id, remedy="run `freshrank train` to its end"
        )
    if before := made_before(noted, bundles):
        return before
    result, prepared = Result.load(job.folder), Prepared.load(job.folder / "inputs")
    full = read_full(Checkpoints(job.folder).path(result.step))
    if fault := weights_fault(full, prepared.encoding):
        raise not_finite(fault, "checkpoint", f"{job.id}, batch {result.step}")
    window, schema = Window(Path(job.window)), prepared.encoding.schema
    layout = tuple(tables(schema, model_class(job.model).spaces(schema, job.recipe)))
    embeddings: dict[str, dict[str, Tensor]] = {}
    for t in layout:
        name = f"lookup.collections.{t.space}.embeddings.{table_name(t)}.weight"
        space = embeddings.setdefault(t.space, {})
        space[t.table] = full[f"model.{name}"][:, : t.width].contiguous()
        sums = full.get(f"tables.{table_name(t)}")
        if sums is not None:
            space[t.table + SUMS] = (sums if sums.dim() == 1 else sums[:, : t.width]).contiguous()
    dense = {key.removeprefix("model.ranker."): value for key, value in full.items() if key.startswith("model.ranker.")}
    tokens = TokenStore(Path(job.tokens)) if job.tokens else None
    info = {
        "model": job.model,
        "window": window.id,
        "trained_until": prepared.plan.valid_from,
        "negatives_kept": prepared.plan.negatives_kept,
        "encoder": Path(job.tokens).name if job.tokens else None,
        "incumbent": Path(job.incumbent).name if job.incumbent else None,
        "warm": prepared.plan.warm,
        "warm_start_reason": prepared.plan.warm_start_reason,
        "seed": job.settings.seed,
        "accepted": result.accepted or None,
    }
    metrics = {key: getattr(result, key) for key in ("steps", "step", "loss", "auc", "validations")}
    bundle = write_bundle(
        bundles,
        window,
        prepared.encoding,
        prepared.items,
        dense=dense,
        embeddings=embeddings,
        recipe=plain(job.recipe),
        info=info,
        metrics=metrics,
        tokens=tokens,
        contents=(set(prepared.texts), set(prepared.images)),
    )
    atomic.write_text(noted, json.dumps({"bundle": bundle}))
    return bundle


def made_before(noted: Path, bundles: Path) -> str | None:
    """The bundle that a note names, if it is still there and this code can read it."""
    if not noted.exists():
        return None
    bundle = str(json.loads(noted.read_text(encoding="utf-8"))["bundle"])
    try:
        read_info(bundles / bundle)
    except (FileNotFoundError, BundleError):
        return None
    return bundle


def load_scorer(folder: Path, tokens: TokenStore | None = None) -> Scorer:
    """A bundle's scorer, on the token store as it is where that is of the bundle's encoder, as the runtime sees it.

    Args:
        folder: The bundle.
        tokens: The token store, or None.

    Raises:
        DataError: If the bundle is of another format, or cannot be read.
    """
    try:
        own = tokens is not None and read_info(folder)["encoder"] == tokens.folder.name
        return Scorer(folder, tokens if own else None)
    except FieldError as error:
        raise _data(error) from error


def write_bundle(
    bundles: Path,
    window: Window,
    encoding: Encoding,
    items: Items,
    *,
    dense: Mapping[str, Tensor],
    embeddings: Mapping[str, Mapping[str, Tensor]],
    recipe: Mapping[str, object],
    info: Mapping[str, object],
    metrics: Mapping[str, object],
    tokens: TokenStore | None,
    contents: tuple[set[str], set[str]],
) -> str:
    """Write a bundle, score its probes with it, name it by its content.

    Args:
        bundles: Folder of all bundles.
        window: The window it was trained on.
        encoding: What it reads.
        items: The item table.
        dense: Weights of the dense part.
        embeddings: Space → table → weights.
        recipe: The model's recipe, all fields.
        info: What `bundle.json` says besides inputs and outputs.
        metrics: What `metrics.json` says.
        tokens: Where content tokens come from.
        contents: Content hashes of texts and of photos to copy, besides those of the item table.

    Returns:
        The id: 16 hexadecimal digits of the sha256 of `SHA256SUMS`.

    Raises:
        DataError: If a score of a probe is not finite, or there is no request to probe it with.
    """
    bundles.mkdir(parents=True, exist_ok=True)
    with scratch(bundles, ".making.") as work:
        encoding.save(work)
        save_items(work / "item_tokens", items)
        if encoding.content and tokens:
            texts, images = (
                sorted(have | {sha for sha in known if sha})
                for have, known in zip(contents, (items.text_sha, items.image_sha), strict=True)
            )
            evaluated = _evaluated(window)
            texts, images = sorted({*texts, *evaluated[0]}), sorted({*images, *evaluated[1]})
            copy_tokens(work / "item_tokens", tokens, texts, images)
        (work / "embeddings").mkdir()
        for space, weights in embeddings.items():
            save_file(dict(weights), work / "embeddings" / f"{space}.safetensors")
        save_file({name: value.contiguous() for name, value in dense.items()}, work / "dense.safetensors")
        _json(work / "recipe.json", recipe)
        _json(work / "metrics.json", metrics)
        shutil.copyfile(window.folder / "manifest.json", work / "manifest.json")
        _copy_code(work / "code")
        inputs = [asdict(i) for i in inputs_of(encoding)]
        signature: dict[str, object] = {"inputs": inputs, "outputs": []}
        _json(work / "bundle.json", {**info, "format": FORMAT, **signature})
        probes = choose(window, encoding)
        outputs = outputs_of(Scorer(work), probes)
        signature["outputs"] = outputs
        digest = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()
        _json(work / "bundle.json", {**info, "format": FORMAT, **signature, "schema_hash": digest})
        write_probes(work, probes)
        sums = _sums(work)
        (work / "SHA256SUMS").write_text(sums, encoding="utf-8")
        bundle = hashlib.sha256(sums.encode()).hexdigest()[:16]
        with atomic.new_folder(bundles / bundle) as target:
            for path in sorted(work.iterdir()):
                path.rename(target / path.name)
    return bundle


def verify(folder: Path) -> None:
    """Check a bundle's format, and the bundle against its sums and its name.

    Args:
        folder: The bundle.

    Raises:
        DataError: If a file is missing, changed or too many, the bundle is not the one its name says, or of another
            format.
    """
    path = folder / "SHA256SUMS"
    if not path.exists():
        raise _corrupt(folder, "SHA256SUMS is missing")
    sums = path.read_text(encoding="utf-8")
    if hashlib.sha256(sums.encode()).hexdigest()[:16] != folder.name:
        raise _corrupt(folder, "SHA256SUMS does not match the bundle's name")
    if (now := _sums(folder)) != sums:
        changed = {line.split("  ", 1)[1] for line in set(now.splitlines()) ^ set(sums.splitlines())}
        raise _corrupt(folder, f"changed or missing: {', '.join(sorted(changed)[:3])}")
    try:
        read_info(folder)
    except BundleError as error:
        raise _data(error) from error


def _evaluated(window: Window) -> tuple[set[str], set[str]]:
    """Content hashes of what day D showed: known by the cut, so the bundle can have it."""
    found: tuple[set[str], set[str]] = (set(), set())
    columns = ["cand_text_sha", "cand_image_sha"]
    for chunk in chunks(window.evaluation, columns, 2048):
        for shas, name in zip(found, columns, strict=True):
            shas.update(sha for sha in chunk.column(name).tolist() if sha)
    return found


def _copy_code(target: Path) -> None:
    """The portable runtime as it is now: one folder, under the import path that it has here."""
    package = Path(__file__).resolve().parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package / "runtime", target / package.name / "runtime", ignore=ignore)
    shutil.copyfile(package / "__init__.py", target / package.name / "__init__.py")


def _sums(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    lines = []
    for path in files:
        if path.name != "SHA256SUMS":
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder)}\n")
    return "".join(lines)


def _json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")


def _corrupt(folder: Path, what: str) -> DataError:
    return DataError(
        "the bundle is corrupt",
        field="bundle",
        value=f"{folder.name} ({what})",
        remedy="remove it and bundle again, or restore it",
    )


def _data(error: FieldError) -> DataError:
    return DataError(error.what, field=error.field, value=error.value, remedy=error.remedy)
