"""All settings: defaults, then `freshrank.toml`, then `FRESHRANK_*` (`__` between section and name)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from features.errors import UsageError
from features.layout import Layout
from features.settings import (
    ContentSettings,
    FeatureSettings,
    KafkaSettings,
    LabelSettings,
    RedisSettings,
    Section,
    WindowSettings,
)
from freshrank.checkout import find_checkout
from freshrank.environment import PREFIX, RENAMED, Variable, shown, variable_of, variables
from serving.settings import GatewaySettings, TritonSettings
from trainer.settings import GateSettings, TrainSettings


class StackSettings(Section):
    """The local stack."""

    dir: Path = Field(
        Path(".freshrank"),
        description="Folder of all state; relative to the settings file; without one, to the checkout or here.",
    )
    port_base: int = Field(17000, ge=1024, le=65000, description="First of the 20 ports the local stack uses.")


class AirflowSettings(Section):
    """Airflow."""

    schedule: Annotated[str, StringConstraints(strip_whitespace=True)] = Field(
        "0 2 * * *", description="Cron of the daily retrain, UTC; empty: runs only when triggered."
    )


class ParitySettings(Section):
    """When serving agrees with training (`freshrank parity`)."""

    max_score_difference: float = Field(
        1e-4, gt=0, description="Logits that a served score may lie from its bundle's own of the same features."
    )
    min_equal_share: float = Field(
        1.0, ge=0, le=1, description="Share of the features seen that must equal the point-in-time rebuild."
    )
    requests: int = Field(400, ge=1, description="Requests of a day scored again, at most, of each bundle.")


class Settings(BaseSettings):
    """Every setting of Freshrank, by section."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    stack: StackSettings = Field(default_factory=lambda: StackSettings.model_validate({}))
    kafka: KafkaSettings = Field(default_factory=lambda: KafkaSettings.model_validate({}))
    redis: RedisSettings = Field(default_factory=lambda: RedisSettings.model_validate({}))
    triton: TritonSettings = Field(default_factory=lambda: TritonSettings.model_validate({}))
    airflow: AirflowSettings = Field(default_factory=lambda: AirflowSettings.model_validate({}))
    window: WindowSettings = Field(default_factory=lambda: WindowSettings.model_validate({}))
    labels: LabelSettings = Field(default_factory=lambda: LabelSettings.model_validate({}))
    features: FeatureSettings = Field(default_factory=lambda: FeatureSettings.model_validate({}))
    content: ContentSettings = Field(default_factory=lambda: ContentSettings.model_validate({}))
    train: TrainSettings = Field(default_factory=lambda: TrainSettings.model_validate({}))
    gate: GateSettings = Field(default_factory=lambda: GateSettings.model_validate({}))
    parity: ParitySettings = Field(default_factory=lambda: ParitySettings.model_validate({}))
    gateway: GatewaySettings = Field(default_factory=lambda: GatewaySettings.model_validate({}))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment above the file's values, which come in as arguments."""
        assert isinstance(env_settings, EnvSettingsSource)
        ours = sorted(variables(settings_cls, os.environ), key=_depth)  # a section's own variable before its settings'
        env_settings.env_vars = {variable_of(one.path).lower(): one.text for one in ours}
        return env_settings, init_settings

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return Layout(self.stack.dir)


def project_root() -> Path:
    """The folder that this code is imported from: workers that start there run the same."""
    return Path(__file__).resolve().parent.parent


def settings_file() -> Path:
    """`FRESHRANK_SETTINGS`, or `freshrank.toml` in the current folder, or in the checkout where there is one."""
    named = os.environ.get(PREFIX + "SETTINGS")
    if named:
        return Path(named).resolve()
    here = Path.cwd() / "freshrank.toml"
    return here if here.exists() else (find_checkout() or Path.cwd()) / "freshrank.toml"


def load(file: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        file: The settings file; by default `settings_file()`. It may be missing unless it was named.

    Returns:
        The settings, with `stack.dir` absolute.

    Raises:
        UsageError: If a value is wrong, a name unknown, a secret stands in the file, the file is no TOML, or two
            settings cannot work together.
    """
    from freshrank import consistency

    file = file or settings_file()
    values = _read(file)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _usage_error(error, file) from error
    if not settings.stack.dir.is_absolute():
        stack = settings.stack.model_copy(update={"dir": (file.parent / settings.stack.dir).resolve()})
        settings = settings.model_copy(update={"stack": stack})
    consistency.check(settings)
    return settings


@dataclass(frozen=True)
class Explained:
    """One setting: its dotted name, value as text, origin and meaning."""

    name: str
    value: str
    origin: str
    meaning: str


def explain(settings: Settings, file: Path | None = None, environ: Mapping[str, str] | None = None) -> list[Explained]:
    """Every setting with its value, where it came from and what it means.

    A table, such as `train.recipe`, is put together from all places that name it; then its origin names them all, the
    strongest first.
    """
    file = file or settings_file()
    from_file = _read(file)
    ours = sorted(variables(Settings, os.environ if environ is None else environ), key=_depth, reverse=True)
    rows = []
    for name, field, value in _fields(settings):
        origins = [one.name for one in ours if _sets(one, name)]
        origins += [str(file)] if _holds(from_file, name.split(".")) else []
        origin = " over ".join(origins if isinstance(value, dict) else origins[:1]) or "default"
        text = ("***" if value.get_secret_value() else "''") if isinstance(value, SecretStr) else repr(value)
        text = f"'{value}'" if isinstance(value, Path) else text
        rows.append(Explained(name, text, origin, field.description or ""))
    return rows


def _depth(variable: Variable) -> int:
    return variable.path.count(".")


def _sets(variable: Variable, name: str) -> bool:
    """Whether a variable, of the setting itself or of a section around it, says something of a setting."""
    if variable.path == name:
        return True
    inner = name.removeprefix(f"{variable.path}.")
    return inner != name and _holds(variable.decoded(), inner.split("."))


def _holds(values: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _fields(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, field, value


def _secrets(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.annotation is SecretStr:
            yield prefix + name
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _secrets(field.annotation, f"{prefix}{name}.")


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        if os.environ.get(PREFIX + "SETTINGS"):
            raise UsageError(
                "the settings file is missing",
                field=PREFIX + "SETTINGS",
                value=str(file),
                remedy="create it or unset this",
            )
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError("not TOML", field=str(file), value=str(error), remedy="mend the line it names") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            "not UTF-8", field=str(file), value=f"byte {error.object[error.start]:#04x} in line {line}",
            remedy="save it as UTF-8",
        ) from error  # fmt: skip
    except OSError as error:
        raise UsageError(
            f"the settings cannot be read ({error.strerror})", field="file", value=str(file), remedy="mend its rights"
        ) from error
    for name in values:
        if name not in Settings.model_fields:
            raise UsageError("unknown setting", field=name, value=values[name], remedy=f"remove it from {file}")
    for name in _secrets():
        if _holds(values, name.split(".")):
            raise UsageError(
                "a secret stands in a file", field=name, value="***", remedy=f"set {variable_of(name)} instead"
            )
    return values


def _usage_error(error: ValidationError, file: Path) -> UsageError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    value = "***" if name in _secrets() else shown(name, first.get("input"))
    value = sorted(value) if isinstance(value, Mapping) else value  # a secret may be among its values
    ours = sorted(variables(Settings, os.environ), key=_depth, reverse=True)
    inner = [one for one in ours if _sets(one, name) or (one.is_json and name.startswith(f"{one.path}."))]
    exact = [one for one in inner if _sets(one, name)] or inner
    where = f"the variable {exact[0].name}" if exact else str(file)
    if first["type"] == "extra_forbidden" and name in RENAMED:
        return UsageError("renamed", field=name, value=value, remedy=f"use {RENAMED[name]} in {where}")
    if first["type"] == "extra_forbidden":
        return UsageError("unknown setting", field=name, value=value, remedy=f"remove it from {where}")
    return UsageError(first["msg"], field=name, value=value, remedy=f"mend it in {where}; see `freshrank settings`")
