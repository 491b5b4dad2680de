"""Settings: file over default, environment over file; a wrong one gives one line with field, value and remedy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import UsageError
from freshrank import settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(__import__("os").environ):
        if name.startswith(settings.PREFIX):
            monkeypatch.delenv(name)
    return tmp_path / "freshrank.toml"


def test_environment_over_file_over_default(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[train]\nseed = 5\nepochs = 3\n", encoding="utf-8")
    monkeypatch.setenv("FRESHRANK_TRAIN__SEED", "7")
    loaded = settings.load(file)
    assert (loaded.train.seed, loaded.train.epochs, loaded.train.workers) == (7, 3, 1)
    origins = {row.name: row.origin for row in settings.explain(loaded, file)}
    assert origins["train.seed"] == "FRESHRANK_TRAIN__SEED"
    assert origins["train.epochs"] == str(file)
    assert origins["train.workers"] == "default"


def test_the_stack_folder_lies_beside_the_settings_file(file: Path) -> None:
    assert settings.load(file).stack.dir == file.parent / ".freshrank"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[train]\nseed = -1\n", r"train\.seed = -1; mend it in .*freshrank.toml"),
        ("[train]\nsed = 1\n", r"unknown setting: train\.sed = 1; remove it from .*freshrank.toml"),
        ("[train\n", "not TOML"),
        ('[kafka]\nsasl_password = "x"\n', r"kafka\.sasl_password = '\*\*\*'; set FRESHRANK_KAFKA__SASL_PASSWORD"),
    ],
)
def test_a_wrong_file_gives_one_clear_line(file: Path, text: str, match: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=match) as caught:
        settings.load(file)
    assert "\n" not in str(caught.value)


def test_a_misspelt_variable_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHRANK_TRIAN__SEED", "1")
    with pytest.raises(UsageError, match="FRESHRANK_TRIAN__SEED"):
        settings.load(file)


def test_secrets_are_never_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHRANK_KAFKA__SASL_PASSWORD", "hunter2")
    loaded = settings.load(file)
    assert loaded.kafka.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in str(settings.explain(loaded, file)) + repr(loaded)


def test_every_setting_says_what_it_means(file: Path) -> None:
    assert [row.name for row in settings.explain(settings.load(file), file) if not row.meaning] == []


def test_the_command_prints_them_and_exits_2_on_a_wrong_one(file: Path) -> None:
    run = [sys.executable, "-m", "freshrank.cli", "settings", "--json"]
    good = subprocess.run(run, capture_output=True, encoding="utf-8", cwd=file.parent, check=True)
    assert {"name": "window.days", "value": "7"}.items() <= json.loads(good.stdout)[_index(good.stdout)].items()
    file.write_text("[window]\ndays = 0\n", encoding="utf-8")
    bad = subprocess.run(run, capture_output=True, encoding="utf-8", cwd=file.parent, check=False)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "window.days = 0" in bad.stderr


def _index(text: str) -> int:
    return [row["name"] for row in json.loads(text)].index("window.days")
