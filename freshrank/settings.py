"""All settings: defaults, then `freshrank.toml`, then `FRESHRANK_*` (`__` between section and name)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from features.configuration import fields_of
from features.errors import UsageError
from features.settings import Section
from freshrank.checkout import find_checkout
from freshrank.environment import PREFIX, RENAMED, Variable, over, section_of, shown, variable_of, variables
from freshrank.sections import Settings as Settings  # others have it from here, with `load`


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
    values = over(_read(file), variables(Settings, os.environ))
    try:
        settings = TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        raise _usage_error(error, file) from error
    if not settings.stack.dir.is_absolute():
        stack = replace(settings.stack, dir=(file.parent / settings.stack.dir).resolve())
        settings = replace(settings, stack=stack)
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
    ours = sorted(
        variables(Settings, os.environ if environ is None else environ), key=lambda one: one.depth, reverse=True
    )
    rows = []
    for name, about, value in _fields(settings):
        origins = [one.name for one in ours if _sets(one, name)]
        origins += [str(file)] if _holds(from_file, name.split(".")) else []
        origin = " over ".join(origins if isinstance(value, dict) else origins[:1]) or "default"
        text = ("***" if value.get_secret_value() else "''") if isinstance(value, SecretStr) else repr(value)
        text = f"'{value}'" if isinstance(value, Path) else text
        rows.append(Explained(name, text, origin, about.description or ""))
    return rows


def _sets(variable: Variable, name: str) -> bool:
    """Whether a variable, of the setting itself or of a section around it, says something of a setting."""
    if variable.path == name:
        return True
    inner = name.removeprefix(f"{variable.path}.")
    return inner != name and _holds(variable.decoded(), inner.split("."))


def _holds(values: object, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _fields(section: Section, prefix: str = "") -> Iterator[tuple[str, FieldInfo, object]]:
    for name, found in fields_of(type(section)).items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, found, value


def _secrets(kind: type[Section] = Settings, prefix: str = "") -> Iterator[str]:
    for name, found in fields_of(kind).items():
        if found.annotation is SecretStr:
            yield prefix + name
        elif section := section_of(found):
            yield from _secrets(section, f"{prefix}{name}.")


def _read(file: Path) -> dict[str, object]:
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
        if name not in fields_of(Settings):
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
    ours = sorted(variables(Settings, os.environ), key=lambda one: one.depth, reverse=True)
    inner = [one for one in ours if _sets(one, name) or (one.is_json and name.startswith(f"{one.path}."))]
    exact = [one for one in inner if _sets(one, name)] or inner
    where = f"the variable {exact[0].name}" if exact else str(file)
    if first["type"] == "unexpected_keyword_argument" and name in RENAMED:
        return UsageError("renamed", field=name, value=value, remedy=f"use {RENAMED[name]} in {where}")
    if first["type"] == "unexpected_keyword_argument":
        return UsageError("unknown setting", field=name, value=value, remedy=f"remove it from {where}")
    return UsageError(first["msg"], field=name, value=value, remedy=f"mend it in {where}; see `freshrank settings`")
