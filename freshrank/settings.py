"""All settings: defaults, then `freshrank.toml`, then `FRESHRANK_*` (`__` between section and name)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

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
from serving.settings import GatewaySettings, TritonSettings
from trainer.settings import GateSettings, TrainSettings

PREFIX = "FRESHRANK_"
SECRETS = ("kafka.sasl_password", "redis.password", "triton.admin_key")


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
    gateway: GatewaySettings = Field(default_factory=lambda: GatewaySettings.model_validate({}))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment above the file's values, which come in as arguments."""
        return env_settings, init_settings

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return Layout(self.stack.dir)


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
        UsageError: If a value is wrong, a name unknown, a secret stands in the file, or the file is no TOML.
    """
    file = file or settings_file()
    values = _read(file)
    _check_environment()
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _usage_error(error, file) from error
    if not settings.stack.dir.is_absolute():
        stack = settings.stack.model_copy(update={"dir": (file.parent / settings.stack.dir).resolve()})
        settings = settings.model_copy(update={"stack": stack})
    return settings


@dataclass(frozen=True)
class Explained:
    """One setting: its dotted name, value as text, origin and meaning."""

    name: str
    value: str
    origin: str
    meaning: str


def explain(settings: Settings, file: Path | None = None, environ: Mapping[str, str] | None = None) -> list[Explained]:
    """Every setting with its value, where it came from and what it means."""
    file = file or settings_file()
    in_file = {name for name, _ in _leaves(_read(file))}
    environ = os.environ if environ is None else environ
    rows = []
    for name, field, value in _fields(settings):
        variable = PREFIX + name.upper().replace(".", "__")
        origin = variable if variable in environ else str(file) if name in in_file else "default"
        shown = ("***" if value.get_secret_value() else "''") if isinstance(value, SecretStr) else repr(value)
        shown = f"'{value}'" if isinstance(value, Path) else shown
        rows.append(Explained(name, shown, origin, field.description or ""))
    return rows


def _fields(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, field, value


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


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
    for name, _ in _leaves(values):
        if name in SECRETS:
            variable = PREFIX + name.upper().replace(".", "__")
            raise UsageError("a secret stands in a file", field=name, value="***", remedy=f"set {variable} instead")
    return values


def _check_environment() -> None:
    """Refuse misspelt variables, which pydantic-settings would pass over."""
    known = {PREFIX + name.upper().replace(".", "__") for name, _, _ in _fields(Settings.model_construct())}
    known |= {PREFIX + name for name in ("SETTINGS", "STACK_ID")}
    sections = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in os.environ:
        if variable.startswith(PREFIX) and variable not in known | sections:
            raise UsageError(
                "unknown setting", field=variable, value=os.environ[variable],
                remedy="see `freshrank settings` for the names, or unset it",
            )  # fmt: skip


def _usage_error(error: ValidationError, file: Path) -> UsageError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    variable = PREFIX + name.upper().replace(".", "__")
    where = f"the variable {variable}" if variable in os.environ else str(file)
    value = "***" if name in SECRETS else first.get("input")
    if first["type"] == "extra_forbidden":
        return UsageError("unknown setting", field=name, value=value, remedy=f"remove it from {where}")
    return UsageError(first["msg"], field=name, value=value, remedy=f"mend it in {where}; see `freshrank settings`")
