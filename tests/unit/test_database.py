"""DuckDB as everything here opens it: in UTC, and reading files by their very names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.database import connect, literal, local_path, pattern, read_parquet
from features.errors import UsageError
from features.layout import Layout

ODD = "sp ace ümläut #1 50% off 'q' \"d\" w*c?d {a,b} 日本 🙂 NFD u\u0308 ;&+~@!$(,"


def values(files: list[Path]) -> list[int]:
    return [row[0] for row in connect().execute(f"SELECT x FROM {read_parquet(files)} ORDER BY x").fetchall()]


def write(file: Path, value: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": [value], "user_id": ["u"]}), file)
    return file


@pytest.mark.parametrize("name", [ODD, "[ab]", "**", "user_id=5", "per%20cent", "new\nline", "s3:bucket"])
def test_a_file_is_read_by_its_very_name(tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name / "1.parquet", 1)
    assert values([file]) == [1]
    found = connect().execute(f"SELECT user_id FROM {read_parquet([file])}").fetchall()
    assert found == [("u",)], "a folder's name became a column"


def test_no_character_of_a_name_stands_for_others(tmp_path: Path) -> None:
    for number, name in enumerate(("a*c", "abc", "a?c", "[ab]c")):
        write(tmp_path / name / "1.parquet", number)
    assert values([tmp_path / "a*c" / "1.parquet"]) == [0]
    assert values([tmp_path / "a?c" / "1.parquet", tmp_path / "[ab]c" / "1.parquet"]) == [2, 3]
    every = literal(pattern(tmp_path / "a*c") + "/*.parquet")
    assert connect().execute(f"SELECT x FROM read_parquet({every})").fetchall() == [(0,)]


def test_a_delta_uri_becomes_the_path_it_was() -> None:
    assert local_path("/data/sp%20ace/%C3%BC/50%25.parquet") == "/data/sp ace/ü/50%.parquet"


@pytest.mark.parametrize("name", ["a%41b", "a[b]c", "a\\b", "a|b", "a^b", "a\nb", "a\udcffb"])
def test_a_folder_that_delta_cannot_write_to_is_refused_by_name(name: str) -> None:
    """Delta takes it for another folder, or kills the process."""
    with pytest.raises(UsageError, match=r"stack\.dir"):
        Layout(Path("/data") / name)


def test_every_session_is_in_utc_whatever_the_machine_says() -> None:
    code = (
        "from features.database import connect; import sys;"
        "ask = \"SELECT current_setting('TimeZone'), epoch_us(make_timestamp(0::BIGINT)::TIMESTAMPTZ)\";"
        "sys.exit(connect().execute(ask).fetchall() != [('UTC', 0)])"
    )
    subprocess.run([sys.executable, "-c", code], env={"TZ": "America/New_York"}, check=True, cwd=Path.cwd())
