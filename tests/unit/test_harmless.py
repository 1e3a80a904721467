"""What a container has printed, as a terminal may have it."""

from __future__ import annotations

import pytest

from hakoniwa.run.terminal.harmless import Harmless


def shown(output: bytes, size: int = 1 << 16) -> str:
    stream = Harmless()
    pieces = [output[at : at + size] for at in range(0, len(output), size)]
    return (b"".join(map(stream.feed, pieces)) + stream.end()).decode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
@pytest.mark.parametrize(
    ("output", "found"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        ("Größe 箱庭 ✓ é\n".encode(), "Größe 箱庭 ✓ é\n"),
        (b"\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\n\x1b[0m"),
        (
            b"\x1b[38;5;8mgrey\x1b[48;2;8;8;8m\x1b[38:5:8m\x1b[m",
            "\x1b[38;5;8mgrey\x1b[48;2;8;8;8m\x1b[38:5:8m\x1b[m\x1b[0m",
        ),
        (b"\x1b[8mhidden", "\x1b[39mhidden\x1b[0m"),
        (b"\x1b[1;08;31mhidden", "\x1b[1;31mhidden\x1b[0m"),
        (b"\x1b[38;5;1;8m\x1b[8:1m", "\x1b[38;5;1m\x1b[39m\x1b[0m"),
        (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        (b"\x1b[2J\x1b[6n\x1bc", "\\x1b[2J\\x1b[6n\\x1bc"),
        ("\x9b2J\x9d0;title\x9c".encode(), "\\x9b2J\\x9d0;title\\x9c"),  # C1, as UTF-8 has it
        (b"\x9b2J \xff", "\\x9b2J \\xff"),  # and raw
        (b"true\rlie\n", "true\nlie\n"),
        (b"a line\r\nanother\r\n", "a line\nanother\n"),
        ("a\u202eb\u2066c\u200bd\u2028e".encode(), "a\\u202eb\\u2066c\\u200bd\\u2028e"),
        (b"a\x08b\x0bc\x0cd\x00e\x7f", "a\\x08b\\x0bc\\x0cd\\x00e\\x7f"),
        (b"cut \xe2\x9c", "cut \\xe2\\x9c"),
        (b"cut \x1b[1", "cut \\x1b[1"),
        (b"cut \x1b", "cut \\x1b"),
        (b"cut\r", "cut\n"),
        (b"\x1b[" + b"1;" * 100 + b"m", "\\x1b[" + "1;" * 100 + "m"),
    ],
)
def test_what_a_terminal_would_act_on_is_shown(output: bytes, found: str, size: int) -> None:
    assert shown(output, size) == found


def test_it_keeps_no_more_than_a_sequence_takes() -> None:
    stream = Harmless()
    assert len(stream.feed(b"\x1b[" + b"1" * 100_000)) > 99_000
    assert len(stream.feed(b"x" * 100_000)) == 100_000
