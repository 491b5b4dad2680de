"""A training's job and its result: typed values, whose encoding lies on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.configuration import read
from features.errors import DataError
from trainer.job import Job
from trainer.recipes import checked_recipe
from trainer.result import Result
from trainer.settings import TrainSettings


def job(folder: Path, **settings: object) -> Job:
    recipe = checked_recipe("deepfm", {"hidden": [8, 4], "optimizer": {"lr": 0.5}})
    return Job("w", None, str(folder), "deepfm", recipe, read(TrainSettings, settings))


def test_a_job_on_disk_is_the_job(tmp_path: Path) -> None:
    one, path = job(tmp_path, seed=3), tmp_path / "job.json"
    one.save(path)
    read = Job.load(path)
    assert read == one and read.id == one.id
    assert read.recipe.optimizer.lr == 0.5 and read.settings.seed == 3


def test_what_changes_weights_changes_the_identity(tmp_path: Path) -> None:
    one = job(tmp_path)
    assert job(tmp_path, seed=1).id != one.id
    assert job(tmp_path, threads=1, model="lr").id == one.id
    assert job(tmp_path / "elsewhere").id == one.id


@pytest.mark.parametrize(
    "change",
    [{"recipe": {"hiden": [8]}}, {"recipe": {"hidden": "8"}}, {"settings": {"seed": -1}}, {"settings": {"sed": 1}},
     {"model": "nonsense"}, {"more": 1}],
)  # fmt: skip
def test_a_job_of_another_version_or_damaged_says_to_train_again(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(tmp_path).to_json() | change), encoding="utf-8")
    with pytest.raises(DataError, match="run `freshrank train` for the day again"):
        Job.load(path)


def test_a_result_on_disk_is_the_result(tmp_path: Path) -> None:
    result = Result(4, 8, 1, False, "no incumbent", 0.25, None, [{"step": 4, "loss": 0.25, "auc": None}])
    result.save(tmp_path)
    assert Result.load(tmp_path) == result
    whole = json.loads(Result.file(tmp_path).read_text(encoding="utf-8"))
    Result.file(tmp_path).write_text(json.dumps(whole | {"loss": "small"}), encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        Result.load(tmp_path)
