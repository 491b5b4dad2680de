"""Deployments: the road to live, refusals, roll-back, retirement, and the same end whatever kills them on the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import atomic
from features.errors import DataError, LockedError, NotReadyError, UsageError
from features.layout import Layout
from features.times import parse_us
from serving.acknowledgements import GATEWAY_LEASE_S, Acknowledgement, gateways_folder
from serving.deploy import Deployer, Report
from serving.export import Repository
from serving.state import ServingFile, VersionState
from tests.serving.bundles import names
from tests.serving.memory_triton import MemoryTriton

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """The process died here."""


class Killer:
    """Counts effects on the world and dies at one of them, before or after it happens."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.count = at, 0

    def wrap(self, target: Any, *names: str) -> None:
        """Make methods of an object count."""
        for name in names:
            setattr(target, name, self._counted(getattr(target, name)))

    def _counted(self, effect: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._step()
            result = effect(*args, **kwargs)
            self._step()
            return result

        return counted

    def _step(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed


class World:
    """A stack's folder with bundles and a Triton.

    Args:
        root: The folder.
        bundles: Bundles to have.
    """

    def __init__(self, root: Path, bundles: Path) -> None:
        self.layout = Layout(root)
        self.layout.bundles.parent.mkdir(parents=True, exist_ok=True)
        self.layout.bundles.symlink_to(bundles)
        self.triton = MemoryTriton(self.layout.triton_repository)
        self.ids = names(bundles)

    def deploy(self, name: str, alias: str = "champion") -> Report:
        """Deploy by the tests' name."""
        return self.deployer().deploy(self.ids[name], alias)

    def named(self, value: Any) -> Any:
        """A value with ids replaced by names."""
        back = {bundle: name for name, bundle in self.ids.items()}
        if isinstance(value, dict):
            return {self.named(key): self.named(item) for key, item in value.items()}
        return [self.named(item) for item in value] if isinstance(value, list) else back.get(value, value)

    def deployer(self, killer: Killer | None = None, **timing: Any) -> Deployer:
        """A new process's deployer."""
        repository = Repository(self.layout.triton_repository)
        timing = {"request_timeout_s": 0.0, "drain_s": 0.0, **timing}
        made = Deployer(self.layout, repository, self.triton, **timing)
        if killer is not None:
            triton = MemoryTriton(self.layout.triton_repository)
            triton.loaded = self.triton.loaded
            made.triton = triton
            killer.wrap(triton, "load", "unload", "infer")
            killer.wrap(repository, "place", "configure", "select", "remove")
            killer.wrap(made.state, "change")
        return made

    def end(self) -> dict[str, Any]:
        """What can be seen from outside when all is done."""
        now = ServingFile(self.layout).read()
        loaded = {
            (model, version): _bundle_of(self.layout, model, version)
            for model, versions in self.triton.loaded.items()
            for version in versions
        }
        on_disk = {
            path.parent.relative_to(self.layout.triton_repository).as_posix()
            for path in self.layout.triton_repository.glob("*/*/model.py")
        }
        assert on_disk == {f"{model}/{version}" for model, version in loaded}
        for name, version in now.versions.items():
            if version.state is VersionState.LIVE:
                assert loaded[version.triton_model, version.version] == name
        return {
            "aliases": self.named(now.aliases),
            "previous": self.named(now.previous),
            "states": self.named({name: version.state for name, version in now.versions.items()}),
            "loaded": sorted(self.named(list(loaded.values()))),
        }


def _bundle_of(layout: Layout, model: str, version: int) -> str:
    """The bundle that a version's folder holds, by its content."""
    sums = (layout.triton_repository / model / str(version) / "bundle" / "SHA256SUMS").read_bytes()
    return hashlib.sha256(sums).hexdigest()[:16]


@pytest.fixture
def world(tmp_path: Path, bundles: Path) -> World:
    """An empty stack."""
    return World(tmp_path / "stack", bundles)


def test_first_deployment_goes_live(world: World) -> None:
    report = world.deploy("one")
    assert (report.version, report.probes, report.already) == (1, 2, False)
    assert report.probe_max_abs <= 1e-6
    assert world.end() == {
        "aliases": {"champion": "one"}, "previous": None, "states": {"one": "LIVE"}, "loaded": ["one"],
    }  # fmt: skip


def test_deploying_again_changes_nothing(world: World) -> None:
    world.deploy("one")
    before = world.layout.serving_state.read_bytes()
    assert world.deploy("one").already
    assert world.layout.serving_state.read_bytes() == before


def test_the_champion_before_stays_loaded_and_the_one_before_that_retires(world: World) -> None:
    for bundle in ("one", "two", "other"):
        report = world.deploy(bundle)
    assert world.named(report.retired) == ["one"] and report.version == 3
    end = world.end()
    assert end["previous"] == "two" and end["loaded"] == ["other", "two"]
    assert end["states"] == {"one": "RETIRED", "two": "LIVE", "other": "LIVE"}


def test_rollback_goes_back_once(world: World) -> None:
    world.deploy("one")
    world.deploy("two")
    assert world.deployer().rollback().bundle == world.ids["one"]
    end = world.end()
    assert end["aliases"] == {"champion": "one"} and end["states"]["two"] == "RETIRED" and end["loaded"] == ["one"]
    with pytest.raises(UsageError, match="nothing to roll back to"):
        world.deployer().rollback()


def test_a_retired_bundle_comes_back_under_a_new_number(world: World) -> None:
    for bundle in ("one", "two", "other", "one"):
        report = world.deploy(bundle)
    assert report.version == 4


def test_aliases_share_a_bundle_and_keep_it_loaded(world: World) -> None:
    world.deploy("one", "popularity")
    world.deploy("one", "champion")
    for bundle in ("two", "other"):
        world.deploy(bundle)
    end = world.end()
    assert end["aliases"] == {"popularity": "one", "champion": "other"}
    assert end["loaded"] == ["one", "other", "two"]


@pytest.mark.parametrize(("bundle", "reason"), [("wrong", "not the trainer's"), ("broken", "size mismatch")])
def test_what_cannot_serve_fails_and_leaves_the_champion(world: World, bundle: str, reason: str) -> None:
    world.deploy("one")
    with pytest.raises(DataError, match="what was live stays live"):
        world.deploy(bundle)
    end = world.end()
    assert end["aliases"] == {"champion": "one"} and end["loaded"] == ["one"]
    assert end["states"] == {"one": "LIVE", bundle: "FAILED"}
    assert reason in (ServingFile(world.layout).read().versions[world.ids[bundle]].reason or "")


def test_corrupt_bundles_are_refused_before_anything_happens(tmp_path: Path, bundles: Path) -> None:
    bundle = names(bundles)["one"]
    damages: tuple[tuple[Callable[[Path], object], str], ...] = (
        (lambda b: (b / "dense.safetensors").write_bytes(b"x"), "corrupt.*dense.safetensors"),
        (lambda b: (b / "recipe.json").unlink(), "corrupt.*recipe.json"),
        (lambda b: (b / "code" / "evil.py").write_text("x", encoding="utf-8"), "corrupt.*evil.py"),
        (lambda b: (b / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    )
    for damage, match in damages:
        shutil.copytree(bundles / bundle, tmp_path / "copy" / bundle)
        shutil.copytree(bundles / ".names", tmp_path / "copy" / ".names")
        damage(tmp_path / "copy" / bundle)
        world = World(tmp_path / "stack", tmp_path / "copy")
        with pytest.raises(DataError, match=match):
            world.deploy("one")
        assert not world.layout.serving_state.exists()
        shutil.rmtree(tmp_path / "copy")
        shutil.rmtree(tmp_path / "stack")


def test_a_missing_bundle_is_not_ready(world: World) -> None:
    with pytest.raises(NotReadyError, match="no such bundle"):
        world.deployer().deploy("nothing")


def test_two_deployments_at_once_are_refused(world: World) -> None:
    with atomic.lock(world.layout.lock("deploy")), pytest.raises(LockedError):
        world.deploy("one")


def test_rollback_does_not_wait_for_a_deployment(world: World) -> None:
    world.deploy("one")
    world.deploy("two")
    with atomic.lock(world.layout.lock("deploy")):
        assert world.deployer().rollback().bundle == world.ids["one"]
    assert world.named(ServingFile(world.layout).read().aliases) == {"champion": "one"}
    world.deploy("one")
    assert world.end()["states"]["two"] == "RETIRED"


def test_a_version_drains_until_every_gateway_has_acknowledged(world: World) -> None:
    gateway = Acknowledgement(world.layout, "gateway-1")
    world.deploy("one")
    gateway.say(ServingFile(world.layout).read().generation)
    world.deploy("two")
    report = world.deploy("other")
    assert world.named(report.draining) == ["one"] and world.end()["loaded"] == ["one", "other", "two"]
    assert report.behind == ["gateway-1"] and report.gateways() == "; not acknowledged by gateway-1"
    gateway.say(report.generation)
    again = world.deploy("other")
    assert world.named(again.retired) == ["one"] and again.behind == [] and again.gateways() == ""
    assert world.end()["loaded"] == ["other", "two"]


def test_a_rollback_names_gateways_that_have_not_acknowledged(world: World) -> None:
    world.deploy("one")
    world.deploy("two")
    gateway = Acknowledgement(world.layout, "gateway-1")
    gateway.say(ServingFile(world.layout).read().generation)
    with atomic.lock(world.layout.lock("deploy")):
        report = world.deployer().rollback()
    assert report.behind == ["gateway-1"] and not report.retired


def test_a_gateway_that_is_silent_beyond_its_lease_holds_nothing_back_and_is_named(world: World) -> None:
    world.deploy("one")
    gateway = Acknowledgement(world.layout, "gateway-1")
    gateway.say(ServingFile(world.layout).read().generation)
    world.deploy("two")
    assert world.named(world.deploy("other").draining) == ["one"]
    heard = time.time() - GATEWAY_LEASE_S - 1
    os.utime(gateways_folder(world.layout) / "gateway-1.json", (heard, heard))
    report = world.deploy("other")
    assert world.named(report.retired) == ["one"] and not report.behind
    assert list(report.silent) == ["gateway-1"] and abs(parse_us(report.silent["gateway-1"]) / 1e6 - heard) < 0.001
    assert "; gateway-1 is silent since 20" in report.gateways()


def test_requests_in_flight_are_waited_for_before_their_version_leaves_triton(world: World) -> None:
    """Requests that began before their gateway acknowledged last `request_timeout_s` at most: so long Triton waits."""
    gateway = Acknowledgement(world.layout, "gateway-1")
    clock = {"now": 0.0, "acknowledged": 0.0}
    loads: list[float] = []

    def sleep(seconds: float) -> None:
        clock["now"] += seconds
        generation = ServingFile(world.layout).read().generation
        if clock["now"] >= 3.0 and gateway._generation != generation:
            gateway.say(generation)
            clock["acknowledged"] = clock["now"]

    for bundle in ("one", "two"):
        gateway.say(world.deploy(bundle).generation)
    deployer = world.deployer(request_timeout_s=7.0, drain_s=60.0, sleep=sleep, monotonic=lambda: clock["now"])
    load = world.triton.load

    def timed(model: str) -> None:
        loads.append(clock["now"])
        load(model)

    world.triton.load = timed  # type: ignore[method-assign]
    assert world.named(deployer.deploy(world.ids["other"]).retired) == ["one"]
    assert clock["acknowledged"] >= 3.0
    assert loads[0] == 0.0 and loads[-1] >= clock["acknowledged"] + 7.0  # of `other`; of what is left without `one`


def test_reconcile_brings_a_restarted_triton_back(world: World) -> None:
    world.deploy("one")
    world.deploy("other")
    world.triton.loaded = {}
    shutil.rmtree(world.layout.triton_repository)
    assert len(world.deployer().reconcile()) == 2
    assert world.end()["loaded"] == ["one", "other"]
    assert world.deployer().reconcile() == []


STORY: list[tuple[str, ...]] = [
    ("deploy", "one"), ("deploy", "two"), ("deploy", "wrong"), ("deploy", "other"), ("rollback",), ("deploy", "one"),
]  # fmt: skip


def tell(world: World, step: tuple[str, ...], killer: Killer | None = None) -> None:
    """Do one step of the story; refusals are part of it."""
    deployer = world.deployer(killer)
    with contextlib.suppress(DataError, UsageError):
        deployer.deploy(world.ids[step[1]]) if step[0] == "deploy" else deployer.rollback()


@settings(max_examples=15, deadline=None)
@given(
    kills=st.lists(st.tuples(st.integers(0, len(STORY) - 1), st.integers(1, 26), st.booleans()), max_size=4),
)
def test_any_kill_point_resumes_to_the_same_end(
    tmp_path_factory: pytest.TempPathFactory, bundles: Path, kills: list[tuple[int, int, bool]]
) -> None:
    world = World(tmp_path_factory.mktemp("killed") / "stack", bundles)
    for number, step in enumerate(STORY):
        for _, at, restart in (kill for kill in kills if kill[0] == number):
            try:
                tell(world, step, Killer(at))
            except Killed:
                if restart:
                    world.triton.restart()
        tell(world, step)
    tell(world, STORY[-1])  # a later call finishes what drained
    assert world.end() == {
        "aliases": {"champion": "one"},
        "previous": "two",
        "states": {"one": "LIVE", "two": "LIVE", "wrong": "FAILED", "other": "RETIRED"},
        "loaded": ["one", "two"],
    }
