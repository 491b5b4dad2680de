"""What steps leave for one another: typed notes, one error where one is missing and one where it is damaged."""

from __future__ import annotations

import ast
import datetime as dt
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from features.content.encode import EncodedCounts
from features.errors import DataError, NotReadyError
from features.eventlog.ingest import Ingested
from features.layout import Layout
from freshrank import pipeline
from freshrank.pipeline.bundle import Bundled
from freshrank.pipeline.content import ContentEncoded
from freshrank.pipeline.deploy import Deployed
from freshrank.pipeline.deployment import NotBlessedError, require_blessing
from freshrank.pipeline.evaluate import Evaluated
from freshrank.pipeline.features import FeaturesMaterialized
from freshrank.pipeline.gate import Decision
from freshrank.pipeline.ingest import EventsIngested, TopicIngested, warnings
from freshrank.pipeline.keep import Kept
from freshrank.pipeline.labels import RequestsLabelled
from freshrank.pipeline.step import StepResult, encoded
from freshrank.pipeline.train import Trained
from freshrank.pipeline.window import WindowBuilt, window_of
from serving.deploy import Report
from trainer.evaluate.figures import Alignment, Comparison, DaySlice, Figures, Matching, Quality
from trainer.evaluate.gate import Check
from trainer.evaluate.metrics import Interval

DAY = dt.date(2026, 1, 9)
ROOT = Path(__file__).resolve().parents[3]
QUALITY = Quality(0.7, None, 0.3, 1.0, None)
FIGURES = Figures(
    task="cvr",
    window="w",
    bundles={"candidate": "c", "popularity": "p"},
    mature_share=0.5,
    slices={"all": DaySlice(3, 9, 2, 1, {"candidate": QUALITY, "popularity": QUALITY})},
    over={"popularity": Comparison({"all": Interval(0.1, 0.0, 0.2)}, {"all": None})},
    alignment=Alignment(9, {"ita": Matching(0.9, 18, None, 0)}),
)
REPORT = Report("b", "champion", "m_b", 3, 7, retired=["a"], silent={"g": "2026-01-09T00:00:00Z"})
RESULTS: list[StepResult] = [
    EventsIngested(None, {"clicks": TopicIngested(4, 1, {0: 10}, {0: 15}, {1: 2}, ["look"])}, 2, 0.5),
    RequestsLabelled("2026-01-09", 1, ["2026-01-08", "2026-01-09"], ["2026-01-09"], 12, seconds=0.5),
    FeaturesMaterialized("2026-01-09", 1, "service", 10, 2, 3, 4, seconds=0.5),
    ContentEncoded(EncodedCounts(items=3, images_broken=1, encoder="e", seconds=0.5), 2),
    WindowBuilt("w", "2026-01-09", ["2026-01-08"], 10, 2, 80, 3, 5, True, seconds=0.5),
    Trained("t", "lr", "w", True, "from b", 0.3, None, 12, True, "/x/job.json", "", 0.5),
    Bundled("b", "p", "lr", "w", 1.25, 0.5, "t"),
    Evaluated("2026-01-09", "lr", FIGURES, 0.5),
    Decision(False, "b", "2026-01-09", "lr", None, (Check("calibrated", "not judged", "nothing shown"),)),
    Deployed(REPORT, 0.5),
    Kept(REPORT, 0.5),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_note_is_its_result_s_encoding(result: StepResult, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for model in ("", "marn"):
        with pytest.raises(NotReadyError, match="has not run for this day") as missing:
            type(result).read(layout, DAY, model)
        assert f"freshrank {result.COMMAND} --date {DAY}" in str(missing.value)
        result.leave(layout, DAY, model)
        assert type(result).read(layout, DAY, model) == result
    assert "\n" not in result.summary()


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_damaged_note_is_an_error_that_names_file_and_remedy(result: StepResult, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    result.leave(layout, DAY)
    path = type(result).note(layout, DAY)
    whole = json.loads(path.read_text(encoding="utf-8"))
    field = {"content": "items", "deploy": "version", "keep": "version", "ingest": "topics", "evaluate": "slices"}
    wrong = whole | {field.get(result.STEP, next(iter(whole))): {"no": "such"}}
    for text in ("", "{", "[]", "null", json.dumps(wrong)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError) as damaged:
            type(result).read(layout, DAY)
        assert "again" in str(damaged.value)


def test_a_model_beside_the_settings_one_has_notes_of_its_own(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert Bundled.note(layout, DAY).name == "bundle.json"
    assert Bundled.note(layout, DAY, "marn").name == "bundle-marn.json"


def test_a_window_whose_folder_is_gone_is_none(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    RESULTS[4].leave(layout, DAY)
    with pytest.raises(NotReadyError, match="window of the day is gone"):
        window_of(layout, DAY)
    layout.window("w").mkdir(parents=True)
    assert window_of(layout, DAY).window_id == "w"


def test_only_a_blessing_that_can_be_read_and_says_yes_lets_a_champion_through(tmp_path: Path) -> None:
    layout, path = Layout(tmp_path), Decision.blessing(Layout(tmp_path), "b")
    with pytest.raises(NotBlessedError, match="no gate has seen"):
        require_blessing(layout, "b")
    path.parent.mkdir(parents=True)
    refused, check = RESULTS[8], Check("calibrated", "holds", "1.0")
    path.write_text(encoded(refused), encoding="utf-8")
    with pytest.raises(NotBlessedError, match="refused"):
        require_blessing(layout, "b")
    path.write_text('{"blessed": "yes"}', encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        require_blessing(layout, "b")
    path.write_text(encoded(Decision(True, "b", "2026-01-09", "lr", None, (check,))), encoding="utf-8")
    require_blessing(layout, "b")


def test_a_topic_that_went_well_warns_of_nothing() -> None:
    assert warnings("clicks", Ingested(events=3)) == []
    assert len(warnings("clicks", Ingested(events=3, dead=1, reasons=Counter({"no id": 1}), hidden={0: 4}))) == 2


def test_settings_come_in_as_an_argument() -> None:
    """A step reads no settings file and no environment: what it does is decided by what it is given."""
    found = []
    for room in ("features", "trainer", "serving", "freshrank/pipeline"):
        for path in sorted((ROOT / room).rglob("*.py")):
            found += [f"{path.relative_to(ROOT)}: {name}" for name in _imported(path) if name in FORBIDDEN]
            if room == "freshrank/pipeline":
                assert "environ" not in path.read_text(encoding="utf-8"), path
    assert not found


FORBIDDEN = {"freshrank.settings.load", "freshrank.settings", "freshrank.settings.settings_file"}


def _imported(path: Path) -> list[str]:
    """Dotted names that a module imports: of modules, and of what it takes out of them."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def test_a_step_loads_torch_only_when_it_runs() -> None:
    """A machine of the data plane, and one that deploys, has no torch."""
    modules = [f"freshrank.pipeline.{module.name}" for module in pkgutil.iter_modules(pipeline.__path__)]
    code = f"import sys, {', '.join(modules)}; assert not {{'torch', 'transformers', 'sklearn'}} & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_every_result_is_frozen_typed_and_of_one_step() -> None:
    kinds = {}
    for module in pkgutil.iter_modules(pipeline.__path__):
        step = importlib.import_module(f"freshrank.pipeline.{module.name}")
        if hasattr(step, "run"):
            kinds[module.name] = inspect.signature(step.run, eval_str=True).return_annotation
    assert {name: kind.STEP for name, kind in kinds.items()} == {name: name for name in kinds}
    assert all(issubclass(kind, StepResult) and kind.__dataclass_params__.frozen for kind in kinds.values())
    assert {type(result) for result in RESULTS} == set(kinds.values())
