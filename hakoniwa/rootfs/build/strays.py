"""What a file's code puts into the place of the rootfs itself, as haconiwa's does, and not into the folder that it is given."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.rootfs.store.discards import must_hold_no_mount, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from hakoniwa.rootfs.tools.progress import Progress

_HINT = "fill the folder $ROOTFS (boot.rootfs); it gets its own name when it is complete"


class StrayWatch:
    """Looks at the place while a strategy runs: what that puts there becomes the rootfs, or goes if the strategy fails.

    A folder that is there already is left alone, whatever happens to it.
    """

    def __init__(self, place: str, folder: str, progress: Progress) -> None:
        self._place = place
        self._folder = folder
        self._progress = progress
        self._was_there = False

    def __enter__(self) -> Self:
        self._was_there = self._is_filled()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._was_there or not self._is_filled():
            return
        try:
            must_hold_no_mount(self._place)
        except HakoError as mounted:
            if error is None:
                raise
            self._progress.warn(f"{self._place} is left half-filled: {mounted}")
            return
        if error is None and not os.listdir(self._folder) and self._take():
            self._progress.tell(f"took what the code has put into {self._place} itself ({_HINT})")
            return
        remove_tree(self._place)
        if error is None:
            raise HakoError(f"the code has filled {self._place} itself", hint=_HINT)
        self._progress.tell(f"removed what the code had put into {self._place} itself ({_HINT})")

    def _is_filled(self) -> bool:
        try:
            return not os.path.islink(self._place) and bool(os.listdir(self._place))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _take(self) -> bool:
        """Move it to the folder that is built in. False if that is on another file system."""
        entries = os.listdir(self._place)
        if os.stat(self._place).st_dev != os.stat(self._folder).st_dev:
            return False
        for entry in entries:
            os.rename(os.path.join(self._place, entry), os.path.join(self._folder, entry))
        os.rmdir(self._place)
        return True
