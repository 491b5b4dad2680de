"""What a bundle carries runs where no more than torch, numpy and safetensors are: in Triton's own Python, too."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.run import make_job, one_worker
from tests.trainer.windows import make_window
from trainer.bundle import make_bundle
from trainer.probes import read_probes
from trainer.train import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".envs" / "triton" / "bin" / "python"
ALLOWED = {"torch", "numpy", "safetensors", *sys.stdlib_module_names}
ALLOWED |= {"triton_python_backend_utils"}  # inside Triton alone

SCORE = """
import importlib, json, sys
from pathlib import Path
bundle = Path(sys.argv[1])
sys.path[:] = [str(bundle / "code"), *(p for p in sys.path if p)]
sys.dont_write_bytecode = True
for path in sorted((bundle / "code").rglob("*.py")):
    parts = path.relative_to(bundle / "code").with_suffix("").parts
    importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
import numpy as np
from trainer.runtime.scorer import Scorer
scorer = Scorer(bundle)
kinds = {i.name: object if i.kind == "string" else i.kind for i in scorer.inputs}
probes = json.loads(sys.stdin.buffer.read().decode("utf-8"))
found = []
for inputs in probes:
    arrays = {name: np.array(values, dtype=kinds[name]) for name, values in inputs.items()}
    found.append({name: logits.tolist() for name, logits in scorer.score(arrays).items()})
print(json.dumps({"numpy": np.__version__, "scores": found}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model that reads texts, photos and histories."""
    root = tmp_path_factory.mktemp("runtime")
    made = make_window(root, requests_a_day=12, days=2, items=30, candidates=5)
    recipe = {"width": 8, "heads": 2, "feed_forward": 8, "experts": 2, "top_k": 1, "history_items": 3}
    job = make_job(made, root, "camenn", recipe, epochs=1, validations_per_epoch=1)
    with one_worker(root):
        train(job)
    return root / "bundles" / make_bundle(job, root / "bundles")


def test_the_runtime_imports_what_triton_has_and_nothing_else() -> None:
    files = sorted((ROOT / "trainer" / "runtime").rglob("*.py"))
    assert len(files) > 50
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: relative imports are not looked at here"
                names = [node.module or ""]
            for name in names:
                own = f"{name}.".startswith("trainer.runtime.")
                assert own or name.split(".")[0] in ALLOWED, f"{path.relative_to(ROOT)} imports {name}"


def test_code_outside_the_models_knows_none_of_them_by_name() -> None:
    """What a model can do besides is a method of `RankingModel`. Studies of some may, and who counts popularity."""
    generic = {"batch", "layers", "ranges", "ranker", "recipe", "registry", "schema"}
    models = ROOT / "trainer" / "runtime" / "models"
    assert generic < {path.stem for path in models.iterdir()}
    exempt = {ROOT / "trainer" / "popularity.py", *(ROOT / "freshrank" / "studies").iterdir(), *models.rglob("*.py")}
    for room in ("trainer", "serving", "freshrank"):
        for path in sorted({*(ROOT / room).rglob("*.py")} - exempt):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
                if module.startswith("trainer.runtime.models."):
                    assert module.split(".")[3] in generic, f"{path.relative_to(ROOT)} knows {module}"


def test_a_bundle_copies_the_runtimes_folder_and_no_more(bundle: Path) -> None:
    runtime = [path.relative_to(ROOT) for path in (ROOT / "trainer" / "runtime").rglob("*.py")]
    copied = [path.relative_to(bundle / "code") for path in (bundle / "code").rglob("*") if path.is_file()]
    assert sorted(copied) == sorted([Path("trainer/__init__.py"), *runtime])
    for path in copied:
        assert (bundle / "code" / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_a_bundle_scores_its_probes_in_tritons_python(bundle: Path) -> None:
    """Every module of its code is imported there, from the bundle, and the scores are the trainer's."""
    probes = read_probes(bundle)
    given = [{name: values.tolist() for name, values in inputs.items()} for inputs, _ in probes]
    done = subprocess.run(
        [PYTHON, "-c", SCORE, bundle], input=json.dumps(given), cwd=bundle, capture_output=True, encoding="utf-8",
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert answer["numpy"].startswith("1."), "Triton's arrays come out wrong under numpy 2"
    assert len(answer["scores"]) == len(probes) > 0
    for found, (_, wanted) in zip(answer["scores"], probes, strict=True):
        assert found.keys() == wanted.keys()
        for name, logits in wanted.items():
            np.testing.assert_allclose(found[name], logits, atol=1e-4)
