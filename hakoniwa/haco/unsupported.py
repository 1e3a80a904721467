"""Words of the file format that this version does not carry out yet: each use is an error, never silence."""

from __future__ import annotations

from hakoniwa.haco.reading import Reading, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self


class Unsupported:
    """A section that takes anything and notes an error for each use, so that the rest of the file is read too."""

    def __init__(self, reading: Reading, word: str) -> None:
        self.__dict__.update(_reading=reading, _word=word)

    _reading: Reading
    _word: str

    def __getattr__(self, name: str) -> Unsupported:
        if name.startswith("__"):
            raise AttributeError(name)
        return Unsupported(self._reading, f"{self._word}.{name}")

    def __setattr__(self, name: str, value: object) -> None:
        refuse(self._reading, f"{self._word}.{name}")

    def __call__(self, *arguments: object, **options: object) -> Self:
        refuse(self._reading, f"{self._word}()")
        return self

    def __getitem__(self, key: object) -> Self:
        refuse(self._reading, f"{self._word}[{key!r}]")
        return self

    def __setitem__(self, key: object, value: object) -> None:
        refuse(self._reading, f"{self._word}[{key!r}]")

    def __bool__(self) -> bool:
        refuse(self._reading, self._word)
        return False

    def __str__(self) -> str:
        refuse(self._reading, self._word)
        return ""

    def __iter__(self) -> Iterator[Self]:
        refuse(self._reading, self._word)
        return iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        return None
