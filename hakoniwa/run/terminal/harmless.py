"""What a container has printed, made fit for the terminal of who looks at it: a stream, where errors.printable is for a line.

Colours stay, and what else decides about how letters look. Whatever moves the cursor, hides text, changes its order or asks
the terminal for something is shown as an escape; a return to the beginning of the line, which lets a line cover another,
begins a new one.
"""

from __future__ import annotations

import codecs
import re

from hakoniwa.errors import printable

# Control Sequence "Select Graphic Rendition" (ECMA-48, 8.3.117), returns, and what is neither plain text nor one of these.
_SPECIAL = re.compile(r"\x1b\[[0-9;:]{0,64}m|\r\n?|\x1b|[^\n\t\r\x1b -~]+")
_UNFINISHED = re.compile(r"(?:\x1b(?:\[[0-9;:]{0,64})?|\r)\Z")
_CONCEAL = "8"
_COLOURS = ("38", "48", "58")  # with 5 and a number, or 2 and three, as parameters of their own
_RESET = "\x1b[0m"


class Harmless:
    """One stream, in pieces of any size."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._left = ""
        self._coloured = False

    def feed(self, output: bytes) -> bytes:
        """What of the stream so far can be shown now."""
        text = self._left + self._decoder.decode(output)
        unfinished = _UNFINISHED.search(text)
        self._left = unfinished[0] if unfinished else ""
        return self._shown(text[: len(text) - len(self._left)])

    def end(self) -> bytes:
        """The rest; what was coloured last colours nothing that comes after."""
        rest = self._shown(self._left + self._decoder.decode(b"", final=True))
        self._left = ""
        reset = _RESET if self._coloured else ""
        self._coloured = False
        return rest + reset.encode()

    def _shown(self, text: str) -> bytes:
        return _SPECIAL.sub(self._replacement, text).encode(errors="backslashreplace")

    def _replacement(self, found: re.Match[str]) -> str:
        text = found[0]
        if text[0] == "\r":
            return "\n"
        if text[0] != "\x1b" or len(text) == 1:
            return printable(text)
        self._coloured = True
        return f"\x1b[{';'.join(_without_conceal(text[2:-1].split(';')))}m"


def _without_conceal(parameters: list[str]) -> list[str]:
    """The parameters that say how text looks, without the one that makes it invisible."""
    kept: list[str] = []
    while parameters:
        first = parameters[0]
        taken = {"5": 3, "2": 5}.get(parameters[1], 1) if first in _COLOURS and len(parameters) > 1 else 1
        if first.split(":")[0].lstrip("0") != _CONCEAL:
            kept += parameters[:taken]
        parameters = parameters[taken:]
    return kept or ["39"]  # an empty list would stand for a reset; this is the default colour
