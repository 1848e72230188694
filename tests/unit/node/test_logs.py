"""CRI log files: lines, tails, limits, rotation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stablehand.machinery.times import parse_time
from stablehand.node.logs import LogOptions, follow_log, log_tail, parse_line, read_log, rotate, tail_offset

STAMP = b"2026-01-31T12:00:0%d.123456789Z"


def line(number: int, text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return STAMP % number + f" {stream} {tag} {text}\n".encode()


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def test_lines() -> None:
    assert parse_line(line(1, "a b  c")) == (STAMP % 1, b"stdout", True, b"a b  c\n")
    assert parse_line(line(1, "part", "stderr", "P")) == (STAMP % 1, b"stderr", False, b"part")
    assert parse_line(line(1, "")) == (STAMP % 1, b"stdout", True, b"\n")
    assert parse_line(b"nonsense\n") is None


def read(path: Path, **options: object) -> str:
    return b"".join(read_log(path, LogOptions(**options))).decode()  # type: ignore[arg-type]


def test_options(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", line(1, "one"), line(2, "tw", tag="P"), line(2, "o"), line(3, "err", "stderr"))
    assert read(path) == "one\ntwo\nerr\n"
    assert read(path, tail_lines=1) == "err\n"
    assert read(path, tail_lines=0) == ""
    assert read(path, limit_bytes=5) == "one\nt"
    assert read(path, stream="Stderr") == "err\n"
    assert read(path, since=parse_time("2026-01-31T12:00:02Z")) == "two\nerr\n"
    assert read(path, timestamps=True, tail_lines=1) == "2026-01-31T12:00:03.123456789Z err\n"
    assert log_tail(path, 2, 100) == "o\nerr\n"


@given(st.lists(st.text(alphabet="ab\u00e9 ", max_size=6), max_size=30), st.integers(0, 40))
def test_tail_is_the_end_of_all(texts: list[str], count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "0.log", *(line(1, text) for text in texts))
        with open(path, "rb") as f:
            f.seek(tail_offset(path, count))
            assert f.readlines() == [line(1, text) for text in texts][len(texts) - min(count, len(texts)) :]


async def test_following_survives_rotation(tmp_path: Path) -> None:
    path = write(tmp_path / "0.log", line(1, "one"))
    ended = asyncio.Event()
    seen: list[bytes] = []
    grown = asyncio.Event()

    async def follow() -> None:
        async for chunk in follow_log(path, LogOptions(follow=True), ended):
            seen.append(chunk)
            grown.set()

    async def append(data: bytes) -> None:
        grown.clear()
        with open(path, "ab") as f:  # noqa: ASYNC230
            f.write(data)
        await asyncio.wait_for(grown.wait(), 5)

    task = asyncio.create_task(follow())
    await asyncio.wait_for(grown.wait(), 5)
    await append(line(2, "two")[:-2] + b"\n")
    await append(line(3, "three"))
    rotate(path, "20260131")
    grown.clear()
    write(path, line(4, "four"))
    await asyncio.wait_for(grown.wait(), 5)
    ended.set()
    await asyncio.wait_for(task, 5)
    assert b"".join(seen) == b"one\ntw\nthree\nfour\n"
    assert read(path) == "one\ntw\nthree\nfour\n"
