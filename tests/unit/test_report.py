"""What a process on its way to a program reports, and what is made of anything else that comes through its pipe."""

from __future__ import annotations

import marshal
import os
import random
import tracemalloc

import pytest

from hakoniwa.errors import HakoError
from hakoniwa.run.process import report


def told(action: object) -> bytes:
    reader, writer = os.pipe()
    action(writer)  # type: ignore[operator]
    os.close(writer)
    content = os.read(reader, report.LARGEST)
    os.close(reader)
    return content


def test_what_is_told_is_read() -> None:
    content = told(lambda pipe: report.tell_executing(pipe, 27))
    found = report.read_report(content, "sh")
    assert (found.executing, found.devpts, found.failure) == (True, 27, None)
    assert report.read_report(b"", "sh") == report.Report()
    error = HakoError("no \udcff such", where="box:1", hint="x" * 10_000, status=126)
    failure = report.read_report(content + told(lambda pipe: report.tell_failure(pipe, error)), "sh").failure
    assert failure is not None
    assert (failure.message, failure.where, failure.status) == ("no \\udcff such", "box:1", 126)
    assert failure.hint == "x" * 6000
    missing = report.read_report(content + (-2).to_bytes(8, "little", signed=True), "sh").failure
    assert missing is not None
    assert missing.status == 127


BOMBS = [
    b"\x06\0\0\0+[\0\0\0\x10",
    b"+\xff\xff",
    b"!" + b"\xff" * 20,
    b"+" + marshal.dumps("x" * 1000),
    b"!\0\0\0\0\0\0\x03\0abc",
    b"+\x20\0" + b"9" * 32,
    bytes(8),
    b"\x01" * 8,
    b"+\0\0" * 10_000,
]


@pytest.mark.parametrize("content", BOMBS)
def test_what_is_no_report_is_an_error_and_takes_no_memory(content: bytes) -> None:
    tracemalloc.start()
    found = report.read_report(content, "sh")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.failure is not None or found.devpts is None
    assert peak < 1 << 20


def test_whatever_is_read_raises_nothing() -> None:
    chance = random.Random(1)
    for _ in range(20_000):
        report.read_report(chance.choice((b"", b"+", b"!")) + chance.randbytes(chance.randrange(40)), "sh")


def test_a_report_has_an_end() -> None:
    reader, writer = os.pipe()
    own = os.pidfd_open(os.getpid())
    try:
        with pytest.raises(HakoError, match="nothing was executed"):
            report.read_to_end(reader, own, 0.1)
        os.set_blocking(writer, False)
        while True:
            try:
                os.write(writer, bytes(4096))
            except BlockingIOError:
                break
        with pytest.raises(HakoError, match="cannot be understood"):
            report.read_to_end(reader, own, 60)
    finally:
        for descriptor in (reader, writer, own):
            os.close(descriptor)
