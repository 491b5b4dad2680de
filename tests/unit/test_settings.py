"""Settings: file over default, environment over file; a wrong one gives one line with field, value and remedy."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from features.configuration import fields_of, read, to_plain
from features.errors import UsageError
from features.settings import KafkaSettings
from freshrank import settings
from freshrank.environment import PREFIX, RENAMED, section_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
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


def test_every_default_is_a_value_that_a_user_could_set() -> None:
    defaults = settings.Settings()
    assert read(settings.Settings, to_plain(defaults)) == defaults == read(settings.Settings, {})


def test_a_secret_is_read_as_it_is_and_not_as_its_stars() -> None:
    kafka = read(KafkaSettings, {"sasl_password": "hunter2"})
    again = read(KafkaSettings, vars(kafka) | {"partitions": 2})
    assert again.sasl_password.get_secret_value() == "hunter2"
    assert again == replace(kafka, partitions=2)


def test_a_number_that_is_not_finite_is_refused_in_every_section(file: Path) -> None:
    names = [
        f"{section}.{name}"
        for section, kind in ((name, section_of(field)) for name, field in fields_of(settings.Settings).items())
        if kind
        for name, field in fields_of(kind).items()
        if field.annotation is float
    ]
    assert len(names) > 10
    for name in names:
        for value in ("nan", "inf", "-inf"):
            file.write_text(f"{name} = {value}\n", encoding="utf-8")
            with pytest.raises(UsageError, match=re.escape(f"{name} = {value}")):
                settings.load(file)


def test_the_stack_folder_lies_beside_the_settings_file(file: Path) -> None:
    assert settings.load(file).stack.dir == file.parent / ".freshrank"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[train]\nseed = -1\n", r"train\.seed = -1; mend it in .*freshrank.toml"),
        ("[train]\nsed = 1\n", r"unknown setting: train\.sed = 1; remove it from .*freshrank.toml"),
        (
            "[train]\nevaluations = 2\n",
            r"renamed: train\.evaluations = 2; use train\.validations_per_epoch in .*freshrank.toml",
        ),
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


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "FRESHRANK_TRAIN__VALID_REQUESTS", "9",
            "renamed: FRESHRANK_TRAIN__VALID_REQUESTS = '9'; use FRESHRANK_TRAIN__VALIDATION_REQUESTS",
        ),
        (
            "FRESHRANK_TRAIN", '{"evaluations": 2}',
            "renamed: train.evaluations = 2; use train.validations_per_epoch in the variable FRESHRANK_TRAIN",
        ),
    ],
)  # fmt: skip
def test_a_settings_old_name_in_the_environment_is_refused_with_its_new_one(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, line: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(UsageError) as caught:
        settings.load(file)
    assert str(caught.value) == line


def test_old_names_of_settings_are_none_and_their_new_ones_are() -> None:
    names = {row.name for row in settings.explain(settings.Settings())}
    assert not names & set(RENAMED)
    assert set(RENAMED.values()) <= names


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


# What Kubernetes puts into every container of a namespace with Services `freshrank` and `freshrank-gateway`.
SERVICES = {
    "FRESHRANK_PORT": "tcp://10.0.0.1:80",
    "FRESHRANK_SERVICE_HOST": "10.0.0.1",
    "FRESHRANK_SERVICE_PORT": "80",
    "FRESHRANK_SERVICE_PORT_HTTP": "80",
    "FRESHRANK_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "FRESHRANK_PORT_8080_TCP_PROTO": "tcp",
    "FRESHRANK_PORT_8080_TCP_PORT": "8080",
    "FRESHRANK_PORT_8080_TCP_ADDR": "10.0.0.1",
    "FRESHRANK_GATEWAY_PORT": "tcp://[fd00::1]:80",
    "FRESHRANK_GATEWAY_SERVICE_HOST": "fd00::1",
    "FRESHRANK_GATEWAY_SERVICE_PORT": "80",
    "FRESHRANK_GATEWAY_PORT_53_UDP": "udp://10.0.0.1:53",
    "FRESHRANK_KAFKA__X_SERVICE_HOST": "10.0.0.1",  # of a Service called `freshrank-kafka--x`
}


def test_variables_of_kubernetes_services_are_passed_over(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = settings.load(file)
    for name, value in SERVICES.items():
        monkeypatch.setenv(name, value)
    assert settings.load(file) == plain
    assert {row.origin for row in settings.explain(plain, file)} == {"default"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRESHRANK_PORT", "17000"),
        ("FRESHRANK_STACK_PORT_BASE", "17000"),
        ("FRESHRANK_REDIS_PORT", "6379"),
        ("FRESHRANK_GATEWAY_HOST", "10.0.0.1"),
        ("FRESHRANK_SERVICE_HOST", "shop.example"),
        ("freshrank_trian__seed", "1"),
        ("FRESHRANK_KAFKA__TOPIC", '{"items": "x"}'),
    ],
)
def test_a_slip_that_resembles_a_service_is_still_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"unknown setting: {name} = "):
        settings.load(file)


def test_a_variable_counts_in_any_case_and_is_refused_twice(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("freshrank_train__seed", "7")
    loaded = settings.load(file)
    assert loaded.train.seed == 7
    assert _origins(loaded, file)["train.seed"] == "freshrank_train__seed"
    monkeypatch.setenv("FRESHRANK_TRAIN__SEED", "8")
    with pytest.raises(UsageError, match="set twice"):
        settings.load(file)


def _origins(loaded: settings.Settings, file: Path) -> dict[str, str]:
    return {row.name: row.origin for row in settings.explain(loaded, file)}


def test_tables_are_explained_with_every_place_they_come_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        '[train.recipe.camenn]\nhistory = "item"\n[kafka.fields.items]\nitem_id = "sku"\n'
        '[kafka.topics]\nitems = "listings"\n',
        encoding="utf-8",
    )
    origins = _origins(settings.load(file), file)
    assert origins["train.recipe"] == origins["kafka.fields.items"] == origins["kafka.topics.items"] == str(file)
    assert origins["kafka.fields.users"] == "default"
    monkeypatch.setenv("FRESHRANK_TRAIN__RECIPE", '{"camenn": {"target": "modalities"}}')
    loaded = settings.load(file)
    assert loaded.train.recipe == {"camenn": {"history": "item", "target": "modalities"}}
    assert _origins(loaded, file)["train.recipe"] == f"FRESHRANK_TRAIN__RECIPE over {file}"


def test_a_whole_section_in_a_variable_works_and_is_explained(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[kafka]\npartitions = 2\ngroup_id = 'g'\n", encoding="utf-8")
    # the order of the environment must not matter: the setting's own variable wins over the sections around it
    for name, value in [
        ("FRESHRANK_KAFKA__TOPICS__CLICKS", "taps"),
        ("FRESHRANK_KAFKA__TOPICS", '{"clicks": "x", "items": "listings"}'),
        ("FRESHRANK_KAFKA", '{"partitions": 3, "sasl_password": "hunter2", "topics": {"users": "people"}}'),
    ]:
        monkeypatch.setenv(name, value)
    loaded = settings.load(file)
    topics = loaded.kafka.topics
    assert (loaded.kafka.partitions, topics.clicks, topics.items, topics.users) == (3, "taps", "listings", "people")
    origins = _origins(loaded, file)
    assert origins["kafka.partitions"] == origins["kafka.topics.users"] == "FRESHRANK_KAFKA"
    assert origins["kafka.topics.items"] == "FRESHRANK_KAFKA__TOPICS"
    assert origins["kafka.topics.clicks"] == "FRESHRANK_KAFKA__TOPICS__CLICKS"
    assert origins["kafka.group_id"] == str(file)
    assert "hunter2" not in str(settings.explain(loaded, file))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("FRESHRANK_FEATURES__CONTEXT", "zone,hour", r"not JSON .*FRESHRANK_FEATURES__CONTEXT"),
        ("FRESHRANK_KAFKA", '{"sasl_password": "hunter2"', r"not JSON .*FRESHRANK_KAFKA = '27 characters'"),
        ("FRESHRANK_KAFKA", "[1]", r"kafka = \[1\]; mend it in the variable FRESHRANK_KAFKA;"),
        ("FRESHRANK_KAFKA", '{"partitions": 0}', r"kafka.partitions = 0; mend it in the variable FRESHRANK_KAFKA;"),
        ("FRESHRANK_KAFKA", '{"no": 0}', r"kafka.no = 0; remove it from the variable FRESHRANK_KAFKA$"),
        ("FRESHRANK_KAFKA", '{"sasl_passwort": "hunter2"}', r"unknown setting: kafka.sasl_passwort = '\*\*\*'"),
        ("FRESHRANK_REDIS__PASWORD_KEY", "hunter2", r"unknown setting: FRESHRANK_REDIS__PASWORD_KEY = '\*\*\*'"),
        ("FRESHRANK_TRAIN__TASKS", '["cpr"]', r"train.tasks.0 = 'cpr'; mend it in the variable FRESHRANK_TRAIN__TASKS"),
    ],
)
def test_a_wrong_variable_gives_one_clear_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, match: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=match) as caught:
        settings.load(file)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_utf_8_gives_one_clear_line(file: Path) -> None:
    file.write_bytes("[kafka]\ngroup_id = 'händler'\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"not UTF-8: .*freshrank.toml = 'byte 0xe4 in line 2'; save it as UTF-8"):
        settings.load(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        settings.load(file)


def test_an_empty_path_is_none_and_not_the_current_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHRANK_CONTENT__IMAGE_WEIGHTS", "")
    file.write_text('[content]\nimage_root = ""\n', encoding="utf-8")
    content = settings.load(file).content
    assert (content.image_weights, content.image_root) == (None, None)


def test_values_beyond_ascii_print_where_the_terminal_knows_none(file: Path) -> None:
    file.write_text('[kafka.fields.items]\nitem_id = "商品"\n', encoding="utf-8")
    run = [sys.executable, "-m", "freshrank.cli", "settings"]
    env = {"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii", "FRESHRANK_SETTINGS": str(file)}
    said = subprocess.run(run, capture_output=True, encoding="ascii", cwd=ROOT, env=env, check=False)
    assert said.returncode == 0, said.stderr
    assert r"{'item_id': '\u5546\u54c1'}" in said.stdout


LOCAL = {"kafka.bootstrap_servers": "a:9092"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"kafka.security_protocol": "SSL"}, ("kafka.security_protocol", "kafka.bootstrap_servers")),
        ({"kafka.replication_factor": 3}, ("kafka.replication_factor", "kafka.bootstrap_servers")),
        (LOCAL | {"kafka.security_protocol": "SASL_SSL"}, ("kafka.sasl_mechanism", "kafka.security_protocol")),
        (LOCAL | {"kafka.sasl_username": "u"}, ("kafka.sasl_username", "kafka.security_protocol")),
        (LOCAL | {"kafka.ssl_cafile": "/ca.pem"}, ("kafka.ssl_cafile", "kafka.security_protocol")),
        ({"kafka.topics.clicks": "x", "kafka.topics.carts": "x"}, ("kafka.topics.clicks", "kafka.topics.carts")),
        ({"kafka.topics.clicks": "x", "kafka.topics.carts": "x.dead"}, ("kafka.topics.clicks", "kafka.topics.carts")),
        ({"kafka.topics.users": "x" * 200, "kafka.topic_prefix": "y" * 60}, ("kafka.topics", "kafka.topic_prefix")),
        (
            {"gateway.list_length": 200, "gateway.max_candidates": 100},
            ("gateway.list_length", "gateway.max_candidates"),
        ),
        ({"gateway.list_length": 2000, "gateway.max_candidates": 9000}, ("gateway.list_length", "at most 1000 items")),
        ({"gateway.young_slots": 9, "gateway.list_length": 8}, ("gateway.young_slots", "gateway.list_length")),
        ({"gate.bootstraps": 10, "gate.confidence": 0.99}, ("gate.bootstraps", "gate.confidence")),
        ({"gate.max_calibration_error": float("inf")}, ("gate.max_calibration_error", "finite")),
        ({"features.user": ["age", "age"]}, ("u_age", "features.user")),
        ({"features.item": ["shop"]}, ("i_shop", "features.item")),
        ({"features.context": ["hour", "hour"]}, ("features.context", "hour")),
        ({"labels.horizon_hours": 168}, ("labels.horizon_hours", "window.days")),
        ({"labels.horizon_hours": 24, "window.days": 1}, ("labels.horizon_hours", "window.days")),
        ({"train.tasks": ["cvr", "cvr"]}, ("train.tasks", "cvr")),
        ({"content.allowed_hosts": ["https://cdn.example"]}, ("content.allowed_hosts", "https://cdn.example")),
        ({"kafka.fields.clicks.item": "sku"}, ("kafka.fields.clicks.item = 'sku'", "ours are event_id.*item_id")),
        (
            {"kafka.fields.clicks.item_id": "id", "kafka.fields.clicks.user_id": "id"},
            ("kafka.fields.clicks.item_id", "kafka.fields.clicks.user_id"),
        ),
        ({"kafka.fields.items.title": "description"}, ("kafka.fields.items.title", "kafka.fields.items.description")),
        ({"stack.dir": "/data/$HOME"}, ("stack.dir", "Airflow", r"'\$'")),
        ({"stack.dir": "/data/what?"}, ("stack.dir", "Airflow", r"'\?'")),
        ({"stack.dir": "/data/a\nb"}, ("stack.dir",)),
        ({"triton.repository": "/data/my models"}, ("triton.repository", "' '")),
        ({"triton.repository": "/data/händler"}, ("triton.repository", "'ä'")),
        ({"redis.url": "redis://cache:6379/0"}, ("redis.url", "host:port")),
        ({"triton.url": "triton"}, ("triton.url", "host:port")),
        ({"kafka.bootstrap_servers": "a:9092,b"}, ("kafka.bootstrap_servers", "'b'")),
        ({"kafka.bootstrap_servers": "a:9092,"}, ("kafka.bootstrap_servers", "''")),
        ({"airflow.schedule": "nonsense"}, ("airflow.schedule", "30 2 \\* \\* \\*")),
        ({"airflow.schedule": "0 * * * *"}, ("airflow.schedule", "once a day")),
        ({"airflow.schedule": "59 1 * * *"}, ("airflow.schedule", "from 02:00 UTC on")),
        ({"airflow.schedule": "0 2 * * 1"}, ("airflow.schedule", "once a day")),
    ],
)
def test_settings_that_cannot_work_together_are_refused_with_their_names(
    file: Path, values: dict[str, object], names: tuple[str, ...]
) -> None:
    # JSON is TOML for these; infinity is written otherwise
    text = "".join(f"{name} = {json.dumps(value).replace('Infinity', 'inf')}\n" for name, value in values.items())
    file.write_text(text, encoding="utf-8")
    for name in names:
        with pytest.raises(UsageError, match=name) as caught:
            settings.load(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        LOCAL | {"kafka.security_protocol": "SASL_SSL", "kafka.sasl_mechanism": "PLAIN", "kafka.sasl_username": "u"},
        LOCAL | {"kafka.security_protocol": "SSL", "kafka.ssl_cafile": "/ca.pem", "kafka.replication_factor": 3},
        {"kafka.bootstrap_servers": "a:9092, [fd00::1]:9092", "redis.url": "[::1]:6379", "triton.url": "t.shop:8001"},
        {"stack.dir": """/data/ä b 100%#1'x ;y #z, (c) "d" {e} & f=g:h""", "triton.url": ""},
        {"stack.dir": "/data/ä b", "triton.repository": "/data/ä b/models"},
        {"triton.repository": "/data/my models", "triton.url": "triton.shop:8001"},
        {"kafka.fields.items.title": "description", "kafka.fields.items.description": "title"},
        {"gateway.list_length": 20, "gateway.young_slots": 20},
        {"gateway.max_candidates": 10, "gateway.list_length": 10},
        {"airflow.schedule": ""},
        {"airflow.schedule": " 30  23 * * * "},
        {"content.allowed_hosts": ["cdn.example", "bucket-1"]},
        {"gate.bootstraps": 40, "gate.confidence": 0.95},
        {"labels.horizon_hours": 167.5},
        {"labels.horizon_hours": 200, "window.days": 9},
    ],
)
def test_settings_that_fit_are_taken(file: Path, values: dict[str, object]) -> None:
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()), encoding="utf-8")
    settings.load(file)


def test_the_settings_that_the_documents_show_are_taken(file: Path) -> None:
    shown = [
        block
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        for block in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    sections = re.compile(rf"^\[({'|'.join(fields_of(settings.Settings))})\b", re.MULTILINE)
    of_settings = [block for block in shown if sections.search(block)]  # others have readers of their own
    assert len(of_settings) >= 2
    for block in of_settings:
        file.write_text(block, encoding="utf-8")
        settings.load(file)


def test_a_recipe_under_a_misspelt_model_is_refused(tmp_path: Path) -> None:
    from freshrank.pipeline.train import make_job

    recipe = {"camenn": {"history": "item"}, "camen": {"history": "item"}}
    own = read(settings.Settings, {"stack": {"dir": tmp_path}, "train": {"recipe": recipe}})
    with pytest.raises(UsageError, match="'camen'"):
        make_job(own, dt.date(2025, 3, 8), "camenn")


def _index(text: str) -> int:
    return [row["name"] for row in json.loads(text)].index("window.days")
