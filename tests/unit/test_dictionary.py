"""The data dictionary: whole, saved with each window, on the page of columns, and read in place of names."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq
import pytest

from features import configuration
from features.dictionary import Column, Group, History, Kind, Level, arrow_schema, markdown, read, save
from features.errors import DataError
from features.layout import Layout
from features.settings import FeatureSettings
from features.window.columns import columns, item_columns
from serving.gateway.scores import ServedBundle
from tests.serving.bundles import make_bundle
from tests.trainer.windows import make_window
from trainer.data.derive import derive, fields_of
from trainer.data.window import Window
from trainer.runtime.scorer import inputs_of
from trainer.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("features", "trainer", "serving", "freshrank")
PREFIX = re.compile(r"(u|i|x|ctx|cand|buy|beh)_|(buy|beh)|(user|hist|cand)__|item:")
DEFAULTS = FeatureSettings()
TRAINING = TrainSettings(min_count=1)


def test_every_column_says_what_it_is() -> None:
    names = [(column.level == "item", column.name) for column in columns(DEFAULTS)]
    assert len(names) == len(set(names))
    for column in columns(DEFAULTS):
        assert column.level in get_args(Level) and column.kind in get_args(Kind), column
        assert column.group is None or column.group in get_args(Group), column
        assert column.meaning and column.dtype and column.domain, column
        assert (column.history in get_args(History)) == (column.level == "history"), column
        listed = column.level in ("history", "candidate", "label")
        assert column.dtype.startswith("list<") == listed, column


def test_times_and_money_have_units() -> None:
    for column in columns(DEFAULTS):
        assert column.unit or column.kind != "time" or column.name == "event_date", column
        assert column.unit == "minor units" or not re.search("money|price, |^its price", column.meaning), column


def test_a_dictionary_survives_a_file(tmp_path: Path) -> None:
    save(tmp_path, columns(DEFAULTS))
    assert read(tmp_path) == columns(DEFAULTS)
    told = json.loads((tmp_path / "columns.json").read_text(encoding="utf-8"))["columns"]
    assert all({"name", "level", "kind", "dtype", "group", "unit", "meaning"} <= set(column) for column in told)


def test_a_window_of_the_old_format_says_build_it_again(tmp_path: Path) -> None:
    made = make_window(tmp_path, requests_a_day=4, days=2)
    assert Window(made.window).columns
    (made.window / "columns.json").rename(made.window / "schema.json")
    with pytest.raises(DataError, match="build the window again"):
        Window(made.window)


def test_items_have_the_catalogues_columns(tmp_path: Path) -> None:
    """The made-up window's are a part of a real one's, of the same types."""
    made = make_window(tmp_path, requests_a_day=4, days=2)
    known = arrow_schema(item_columns(DEFAULTS))
    for field in pq.read_schema(made.window / "items.parquet"):
        assert field.type == known.field(field.name).type


@pytest.mark.parametrize(
    "settings",
    [{}, {"context": ["zone", "hour", "weekday"], "user": ["age"], "item": ["department"], "item_numbers": []}],
)
def test_the_features_of_a_model_come_from_the_dictionary(settings: dict[str, list[str]]) -> None:
    """In the order that weights depend on: user, context, item, cross, then each history."""
    features = configuration.read(FeatureSettings, settings)
    names = [f.name for f in fields_of(columns(features), TRAINING)]
    profile = [f"u_{name}" for name in features.user]
    assert names[: len(profile) + 1] == ["user_id", *profile]
    assert names.index("ctx_zone") < names.index("item_id") < names.index("shop_id") < names.index("x_item_buys")
    kept = ["buys.i_zone"] if "zone" in features.item else []
    assert names[names.index("buys.item_id") :] == [
        "buys.item_id", "buys.category_id", "buys.shop_id", "buys.brand_id", *kept, "buys.i_price", "buys.i_weight",
        "buys.gap",
        "behaviours.item_id", "behaviours.shop_id", "behaviours.brand_id", "behaviours.category_id",
        *(name.replace("buys", "behaviours") for name in kept), "behaviours.i_price", "behaviours.i_weight",
        "behaviours.type", "behaviours.gap",
    ]  # fmt: skip
    twice = {column.domain for column in columns(features) if column.group == "item" and column.span_h}
    assert twice and {name.split("@")[0] for name in names if "@" in name} == twice


def test_a_name_says_nothing_of_a_column(tmp_path: Path) -> None:
    """A column of any name goes where its declaration puts it."""
    told = [Column("cand_mood", "request", "categorical", "string", "context", "", "a field of the context")]
    told += [Column("u_stock", "candidate", "numeric", "list<double>", "item", "", "sold in a day", span_h=24)]
    fields = {f.name: f for f in fields_of(told, TRAINING)}
    assert (fields["cand_mood"].level, fields["cand_mood"].group) == ("request", "context")
    assert (fields["u_stock@10"].level, fields["u_stock@100"].buckets) == ("candidate", 100)


def test_a_bundle_tells_the_level_of_each_input(tmp_path: Path) -> None:
    window = Window(make_window(tmp_path, requests_a_day=20, days=2).window)
    inputs = {i.name: i for i in inputs_of(derive(window, TRAINING, None)[0])}
    levels = {"user": {"request"}, "cand": {"candidate"}, "hist": {"buys", "behaviours"}}
    assert {name.split("__")[0] for name in inputs} == set(levels)
    for name, found in inputs.items():
        assert found.level in levels[name.split("__")[0]], name


def test_the_gateway_says_make_an_old_bundle_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    bundle = make_bundle(layout.bundles, "one")
    assert {i.level for i in ServedBundle.read(layout, bundle).inputs} == {"request", "candidate", "buys"}
    path = layout.bundle(bundle) / "bundle.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    for told in info["inputs"]:
        del told["level"]
    path.write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(DataError, match="make the bundle again"):
        ServedBundle.read(layout, bundle)


def test_the_page_of_columns_is_current() -> None:
    page = (ROOT / "docs/concepts/data.md").read_text(encoding="utf-8")
    found = page.split("<!-- columns -->\n")[1].split("<!-- /columns -->")[0]
    assert found == markdown(columns(DEFAULTS)), "put in what `freshrank features columns` prints without settings"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_guesses_by_a_prefix(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in prefixes(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "ask the data dictionary"


def test_the_check_of_prefixes_finds_them() -> None:
    source = """
OURS = ("cand_", "i_")
a.startswith("u_"), a.startswith(("x", "buy_")), a.startswith(OURS), a.startswith(f"{beh}_"), a[:3] == "buy"
re.compile(r"^i_.*_[0-9]+d$")
a.startswith("-"), "i_price" in row
"""
    assert [line for line, _ in prefixes(ast.parse(source))] == [2, *5 * [3], 4]


def prefixes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a module tells columns by how their names begin: by a constant prefix, a pattern, or a made-up one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and guesses(node):
            found.add((node.lineno, node.col_offset, ast.unparse(node)))
    for line, _, text in sorted(found):
        yield line, text


def guesses(node: ast.expr) -> bool:
    """Whether an expression has a prefix of columns in it, other than to make a name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        told = [text for argument in node.args for text in texts(argument)]
        if node.func.attr == "startswith":
            return any(text.endswith("_") or PREFIX.fullmatch(text) for text in told)
        return node.func.attr in ("compile", "match") and any(PREFIX.match(text.lstrip("^(")) for text in told)
    if isinstance(node, ast.Compare) and isinstance(node.left, ast.Subscript):
        told = [text for other in node.comparators for text in texts(other)]
        return isinstance(node.left.slice, ast.Slice) and any(map(PREFIX.fullmatch, told))
    if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
        parts = [*node.keys, *node.values] if isinstance(node, ast.Dict) else node.elts
        told = [text for part in parts if part for text in texts(part)]
        return any(PREFIX.fullmatch(text) and text.endswith(("_", ":")) for text in told)
    return False


def texts(node: ast.AST) -> Iterator[str]:
    """Constant texts of an expression; what is filled in is left out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(text for part in node.values for text in texts(part))
    elif isinstance(node, ast.Tuple | ast.List):
        for part in node.elts:
            yield from texts(part)
