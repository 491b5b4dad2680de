"""The set-up repeats in no time, goes on after an interruption, and says what it cannot do itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from freshrank import bootstrap
from freshrank.bootstrap import Part, SetupError

pytestmark = pytest.mark.slow


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bootstrap, "SETUP", tmp_path / ".setup")
    monkeypatch.setattr(bootstrap, "missing_system", list)
    return tmp_path


def use(monkeypatch: pytest.MonkeyPatch, *parts: Part) -> None:
    monkeypatch.setattr(bootstrap, "parts", lambda: list(parts))


def part(checkout: Path, name: str, made: list[str], fails: list[str] | None = None) -> Part:
    source, product = checkout / f"{name}.in", checkout / f"{name}.out"
    source.touch()

    def make() -> None:
        made.append(name)
        if fails and name in fails:
            raise SetupError(f"{name} cannot be made: mend it")
        product.touch()

    return Part(name, name, (source,), product, make)


def test_a_second_run_makes_nothing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    use(monkeypatch, part(checkout, "a", made), part(checkout, "b", made))
    assert bootstrap.main() == 0
    assert made == ["a", "b"]
    assert bootstrap.main() == 0
    assert made == ["a", "b"]


def test_a_changed_input_or_a_lost_product_makes_that_part_again(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    use(monkeypatch, part(checkout, "a", made), part(checkout, "b", made))
    bootstrap.main()
    (checkout / "a.in").write_text("changed", encoding="utf-8")
    bootstrap.main()
    (checkout / "b.out").unlink()
    bootstrap.main()
    assert made == ["a", "b", "a", "b"]


def test_after_a_failure_it_goes_on_with_the_part_it_was_in(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    fails = ["b"]
    use(monkeypatch, *(part(checkout, name, made, fails) for name in "abc"))
    assert bootstrap.main() == 2
    assert capsys.readouterr().err.strip().endswith("setup: b cannot be made: mend it")
    fails.clear()
    assert bootstrap.main() == 0
    assert made == ["a", "b", "b", "c"]


def test_an_interrupted_part_is_made_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    whole = part(checkout, "a", made)

    def cut() -> None:
        whole.product.touch()  # half a product, and no stamp
        raise KeyboardInterrupt

    use(monkeypatch, Part("a", "a", whole.inputs, whole.product, cut))
    assert bootstrap.main() == 130
    use(monkeypatch, whole)
    assert bootstrap.main() == 0
    assert made == ["a"]


def test_without_root_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "missing_system", lambda: ["maven", "redis-tools"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(SetupError, match="sudo apt-get install -y maven redis-tools"):
        bootstrap.make_system()


def test_the_configuration_of_pip_reaches_uv(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = checkout / ".setup" / "uv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    config = checkout / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://mirror.example/simple\nfind-links = /wheels\ncert = /ca.pem\n", encoding="utf-8"
    )
    for name in ("PIP_CERT", "PIP_FIND_LINKS", "PIP_INDEX_URL", "SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://more.example/simple")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "7")
    found = bootstrap.uv_environment()
    assert found["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert found["UV_INDEX"] == "https://more.example/simple"
    assert (found["UV_FIND_LINKS"], found["SSL_CERT_FILE"]) == ("/wheels", "/ca.pem")
    assert "UV_HTTP_TIMEOUT" not in found  # configured for uv itself: kept


def test_this_checkout_is_set_up_and_says_so_with_the_standard_library_alone() -> None:
    late = [part.name for part in bootstrap.parts() if not part.is_done()]
    assert late == [], "run `make setup`: a test installs nothing, least of all into environments that others share"
    ended = subprocess.run(
        [bootstrap.base_python(), "-I", "-S", str(Path(bootstrap.__file__))], capture_output=True, encoding="utf-8"
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("setup: everything is there"), ended.stderr
