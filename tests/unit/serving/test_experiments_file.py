"""Experiments: what is written can be read, or is refused and nothing is written."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import FreshrankError, LockedError, UsageError
from features.layout import Layout
from freshrank import cli
from serving.gateway import experiments_file
from serving.gateway.experiments import Experiment, Experiments
from serving.gateway.experiments_file import change, check_name, experiments_path, parse, read

ARMS = ("--arm", "a=0.5:champion", "--arm", "b=0.25:uniform")
ODD = ["ranker.v2", "the big one", "größer", 'a "quoted" one', "it's", "排序🥛", "[x]", "a = 1", "#", "\\", "1", "-"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experiments file of a stack."""
    monkeypatch.setenv("FRESHRANK_STACK__DIR", str(tmp_path))
    return experiments_path(Layout(tmp_path))


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """`freshrank experiment …`; its exit code."""
    monkeypatch.setattr("sys.argv", ["freshrank", "experiment", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("name", ODD)
def test_what_is_called_active_can_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(monkeypatch, "create", "other", "--arm", "x=1:champion") == 0
    assert run(monkeypatch, "stop", "other") == 0
    assert run(monkeypatch, "create", "--seed", f"{name}\x7f\n\0", *ARMS, "--", name) == 0
    found = read(path)
    assert found.active is not None and found.active[0] == name and list(found.active[1].arms) == ["a", "b"]
    assert found.active[1].seed == f"{name}\x7f\n\0"
    assert run(monkeypatch, "ramp", "--arm", "b=0.5", "--", name) == 0
    assert run(monkeypatch, "show") == 0
    assert run(monkeypatch, "stop", "--", name) == 0
    found = read(path)
    assert found.active is None and found.experiments[name].arms["b"].share == 0.5
    assert list(found.experiments) == ["other", name]
    capsys.readouterr()
    assert run(monkeypatch, "show", "--json") == 0
    assert list(json.loads(capsys.readouterr().out)) == ["other", name]


ANY_NAME = st.text(st.characters(codec="utf-8"), max_size=60)
ARM_NAME = st.text(string.ascii_letters + string.digits, min_size=1, max_size=3)
ARM = st.fixed_dictionaries({"share": st.floats(0, 0.1), "alias": st.sampled_from(["champion", "popularity"])})
EXPERIMENT = st.builds(
    lambda seed, arms: parse("e", {"seed": seed, "active": False, "arms": arms}, ""),
    ANY_NAME,
    st.dictionaries(ARM_NAME, ARM, min_size=1, max_size=4),
)


@settings(max_examples=60, deadline=None)
@given(others=st.dictionaries(ANY_NAME, EXPERIMENT, max_size=3), name=ANY_NAME, experiment=EXPERIMENT)
def test_any_name_and_seed_come_back(
    tmp_path_factory: pytest.TempPathFactory, others: dict[str, Experiment], name: str, experiment: Experiment
) -> None:
    layout = Layout(tmp_path_factory.mktemp("any"))
    path = experiments_path(layout)
    for other, its in others.items():
        change(layout, path, other, lambda _, its=its: its)  # type: ignore[misc]
    change(layout, path, name, lambda _: experiment)
    wanted = {**others, name: experiment}
    assert [(n, e.seed, list(e.arms.items())) for n, e in read(path).experiments.items()] == [
        (n, e.seed or n, list(e.arms.items())) for n, e in wanted.items()
    ]


def test_experiments_written_by_hand_can_be_stopped_and_ramped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "Größe.é \x7f 🥛"
    text = '["Größe.é \\u007f 🥛".arms]\na = { share = 0.5, alias = "champion" }\n\n[andere]\nactive = false\n'
    path.write_text(text + 'arms.x = { share = 1, policy = "uniform" }\n', encoding="utf-8")
    assert run(monkeypatch, "ramp", name, "--arm", "a=0.25") == 0
    assert run(monkeypatch, "stop", name) == 0
    found = read(path).experiments
    assert found[name].arms["a"].share == 0.25 and not found[name].active
    assert found["andere"].arms["x"].policy == "uniform"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[r\xe4nker]\n[r\xe4nker.arms]\na = { share = 1, alias = "champion" }\n', "not UTF-8"),
        (b"[ranker\n", "not TOML"),
        (b"x = " + b"[" * 100_000, "not TOML"),
        (b"ranker = 1\n", "a dictionary"),
        (b"[ranker]\nseeds = 1\n", "ranker.arms"),
        (b'[r.arms]\na = { share = 2, alias = "champion" }\n', "r.arms.a.share"),
        (b'[r.arms]\na = { share = nan, alias = "champion" }\n', "r.arms.a.share"),
        (b"[r.arms]\na = { share = 1 }\n", "an alias or a policy"),
        (b'["r".arms]\n"a.b" = { share = 1, alias = "champion" }\n', "r.arms.a.b"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_and_left(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    path.write_bytes(content)
    for words in (["create", "new", *ARMS], ["stop", "ranker"], ["ramp", "ranker", "--arm", "a=0.1"], ["show"]):
        assert run(monkeypatch, *words) == 2
        out, err = capsys.readouterr()
        (line,) = err.strip().splitlines()
        assert said in line and out == "" and path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == [path.name]


def test_an_experiments_file_that_is_a_folder_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path.mkdir(parents=True)
    assert run(monkeypatch, "create", "new", *ARMS) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["create", "", *ARMS],
        ["create", " ranker", *ARMS],
        ["create", "a\nb", *ARMS],
        ["create", "a\x7f", *ARMS],
        ["create", "\udce4", *ARMS],
        ["create", "x" * 101, *ARMS],
        ["create", "x", "--arm", "a.b=0.5:champion"],
        ["create", "x", "--arm", "ä=0.5:champion"],
        ["create", "x", "--arm", "=0.5:champion"],
        ["create", "x", "--arm", "a=nan:champion"],
        ["create", "x", "--arm", "a=0.5:nobody"],
        ["create", "x", "--arm", "a=0.5:champion", "--arm", "a=0.1:uniform"],
        ["create", "x", "--arm", "a=0.9:champion", "--arm", "b=0.2:uniform"],
        ["create", "x", *ARMS, "--seed", "s" * 101],
        ["create", "x", *ARMS, "--seed", "\udce4"],
        ["create", "second", *ARMS],
        ["stop", "nothing"],
        ["ramp", "first", "--arm", "c=0.1"],
        ["ramp", "first", "--arm", "a=2"],
        ["ramp", "first", "--arm", "a=0.8"],
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    run(monkeypatch, "create", "first", *ARMS)
    before = path.read_bytes()
    capsys.readouterr()
    assert run(monkeypatch, *words) == 2
    out, err = capsys.readouterr()
    assert len(err.strip().splitlines()) == 1 and out == "" and path.read_bytes() == before


def test_nothing_is_published_that_reads_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path)
    path = experiments_path(layout)
    experiment = parse("e", {"arms": {"a": {"share": 0.5, "alias": "champion"}}}, "")
    change(layout, path, "first", lambda _: experiment)
    before = path.read_bytes()
    for text, error in ((before.decode(), FreshrankError), ("[[", UsageError)):
        monkeypatch.setattr(experiments_file, "edited", lambda *_, text=text: text)
        with pytest.raises(error):
            change(layout, path, "second", lambda _: replace(experiment, active=False))
        assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [path.name]


def test_two_changes_at_once_lose_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments_file, "LOCK_TIMEOUT_S", 0.0)
    layout = Layout(tmp_path)
    path = experiments_path(layout)
    idle = parse("e", {"active": False, "arms": {"a": {"share": 0.5, "alias": "champion"}}}, "")

    def while_another_comes(_: Experiments) -> Experiment:
        with pytest.raises(LockedError):
            change(layout, path, "second", lambda _: idle)
        return idle

    change(layout, path, "first", while_another_comes)
    change(layout, path, "second", lambda _: idle)
    assert set(read(path).experiments) == {"first", "second"}


def test_names_may_be_long_but_not_endless() -> None:
    check_name("é" * 100)
    with pytest.raises(UsageError, match="up to 100"):
        check_name("é" * 101)


TOP, ABOUT_ARMS, ABOUT_OTHER = "# Ask growth before a change.\n\n", "# shares sum to 1\n", "\n# kept for the paper\n"
OTHER = '[andere]\nactive = false  # done\n\n\narms.x = { share = 1, policy = "uniform" }\n# the end\n'
SHAPES = {
    "as written by the command": (
        '[r]\nseed = "r"\nactive = true  # since May\n\n'
        f'{ABOUT_ARMS}[r.arms]  # two\na = {{ share = 0.5, alias = "champion" }}  # old\n'
        'b = { share = 0.25, policy = "uniform" }\n'
    ),
    "arms alone": f'{ABOUT_ARMS}[r.arms]\na = {{share=0.5,alias="champion"}}\nb = {{share=0.25,policy="uniform"}}\n',
    "a table an arm": (
        f'[r]\n\n{ABOUT_ARMS}[r.arms.a]\nshare = 0.5\nalias = "champion"\n\n'
        '[r.arms.b]\nshare = 0.25\npolicy = "uniform"\n'
    ),
    "tables of arms alone": (
        f'{ABOUT_ARMS}[r.arms.a]\nshare = 0.5\nalias = "champion"\n[r.arms.b]\nshare = 0.25\npolicy = "uniform"\n'
    ),
    "dotted": (
        f'[r]\n{ABOUT_ARMS}arms.a = {{ share = 0.5, alias = "champion" }}\narms.b={{share=0.25,policy="uniform"}}\n'
    ),
    "dotted at the top": (
        f'{ABOUT_ARMS}r.arms.a = {{ share = 0.5, alias = "champion" }}\nr.arms.b={{share=0.25,policy="uniform"}}\n'
    ),
    "one line": (
        f'{ABOUT_ARMS}r = {{ arms = {{a={{share=0.5,alias="champion"}},b={{share=0.25,policy="uniform"}} }} }}\n'
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "words",
    [
        ["stop", "r"],
        ["ramp", "r", "--arm", "a=0.125"],
        ["create", "r", "--arm", "b=1:challenger", "--seed", "fresh"],
        ["create", "r", "--arm", "c=0.5:champion", "--arm", "b=0:popularity", "--arm", "d=0:uniform"],
        ["stop", "r", "create", "r", "--arm", "b=1:challenger", "--arm", "a=0:champion", "--seed", "fresh"],
        ["stop", "andere"],
        ["ramp", "andere", "--arm", "x=0.5"],
    ],
    ids=" ".join,
)
def test_comments_order_and_blank_lines_of_the_rest_survive(
    path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], shape: str
) -> None:
    words = list(words)
    path.write_text(TOP + SHAPES[shape] + ABOUT_OTHER + OTHER, encoding="utf-8")
    if words[2:3] == ["create"]:
        assert run(monkeypatch, *words[:2]) == 0
        del words[:2]
    assert run(monkeypatch, *words) == 0
    text = path.read_text(encoding="utf-8")
    assert text.startswith(TOP) and text.count(ABOUT_ARMS) == 1
    assert list(read(path).experiments) == ["r", "andere"]
    if words[1] == "r":
        assert text.endswith(ABOUT_OTHER + OTHER)
    else:
        assert text.startswith(TOP + SHAPES[shape] + ABOUT_OTHER) and text.endswith("# the end\n")


def test_a_stop_and_a_ramp_change_no_other_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TOP + SHAPES["as written by the command"] + ABOUT_OTHER + OTHER
    path.write_text(text, encoding="utf-8")
    assert run(monkeypatch, "ramp", "r", "--arm", "b=0.5") == 0
    assert run(monkeypatch, "stop", "r") == 0
    wanted = text.replace("active = true ", "active = false ").replace("share = 0.25", "share = 0.5")
    assert path.read_text(encoding="utf-8") == wanted


@pytest.mark.parametrize("text", ["# nothing yet", TOP + OTHER, OTHER.rstrip()])
def test_a_new_experiment_comes_last_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path.write_text(text, encoding="utf-8")
    assert run(monkeypatch, "create", "new", *ARMS) == 0
    assert path.read_text(encoding="utf-8").startswith(f"{text.rstrip()}\n\n[new]\n")


def test_an_experiment_in_pieces_is_changed_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = (
        '[r.arms.a]\nshare = 0.5\nalias = "champion"\n\n# between\n[andere.arms.x]\nshare = 1\npolicy = "uniform"\n'
    )
    path.write_text(pieces + "[andere]\nactive = false\n[r]  # two\nactive = true\n", encoding="utf-8")
    assert run(monkeypatch, "ramp", "r", "--arm", "a=0.25") == 0
    assert run(monkeypatch, "stop", "r") == 0
    text = path.read_text(encoding="utf-8")
    assert "# between\n[andere.arms.x]" in text and text.endswith("[r]  # two\nactive = false\n")
