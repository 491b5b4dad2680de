"""What the pages for people name is there, and the glossary is one."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_file_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    words = re.findall(r"`([\w.-]+(?:/[\w.-]+)*)`", text) + re.findall(r"\]\(([\w./-]+)\)", text)
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir()}
    files = {word for word in words if "/" in word and Path(word).suffix and word.split("/")[0] in rooms}
    assert len(files) > 60
    assert sorted(file for file in files if not (ROOT / file).is_file()) == []


def test_the_glossary_says_each_word_once_in_a_sentence_and_in_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    found = [re.fullmatch(r"- \*\*(.+?)\*\*: (.+\.)", line) for line in lines]
    assert [line for line, match in zip(lines, found, strict=True) if match is None] == []
    words = [match[1] for match in found if match]
    assert len(words) == len({word.lower() for word in words}) > 60
    assert words == sorted(words, key=str.lower)
