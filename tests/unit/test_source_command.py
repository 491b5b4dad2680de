"""`freshrank source`: what it refuses, in one line."""

from __future__ import annotations

import pytest

from freshrank import cli


def refused(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The line on stderr of a command that ends with 2."""
    monkeypatch.setattr("sys.argv", ["freshrank", "source", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    (line,) = said.err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nonsense", "--from", "2017-03-01", "--to", "2017-03-02"], "no such source: source = 'nonsense'"),
        (["completejourney", "--from", "2017-03-02", "--to", "2017-03-02"], "the range is empty"),
        (["completejourney", "--from", "yesterday", "--to", "2017-03-02"], "not a time: time = 'yesterday'"),
        (["completejourney", "--from", "2017-13-01", "--to", "2017-03-02"], "not a day: date = '2017-13-01'"),
        (["completejourney", "--from", "2017-03-01", "--to", "2017-03-02", "--photos", "/nowhere"], "GroceryStore"),
        (["completejourney", "--from", "2017-03-01", "--to", "2017-03-02", "--set", "a=1"], "has no options"),
        (["city", "--from", "2025-03-03", "--to", "2025-03-04", "--set", "nope=1"], "not an option of the city"),
        (["city", "--from", "2025-03-03", "--to", "2025-03-04", "--set", "shoppers=x"], "city.shoppers = 'x'; use a"),
        (["city", "--from", "2025-03-03", "--to", "2025-03-04", "--set", "shoppers=0"], "use 1 or more"),
        (
            ["city", "--from", "2025-03-03", "--to", "2025-03-04", "--set", "dirt.rate=7"],
            "city.dirt.rate = '7'; use at",
        ),
        (["city", "--from", "2025-03-03", "--to", "2025-03-04", "--set", "strengths.need=nan"], "use a finite number"),
        (["city", "--from", "2025-03-03", "--to", "2025-03-04", "--set", "dirt=7"], "city.dirt = '7'; use a table"),
        (["city", "--from", "2025-03-03T01:00:00Z", "--to", "2025-03-04"], "whole days"),
        (["city", "--from", "2025-03-01", "--to", "2025-03-04"], "before the city's first logged day"),
    ],
)
def test_wrong_arguments_are_named(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in refused(["replay", *words], monkeypatch, capsys)


def test_only_the_city_can_be_described(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no report" in refused(["describe", "completejourney"], monkeypatch, capsys)
