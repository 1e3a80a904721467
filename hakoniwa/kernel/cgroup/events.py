"""What the kernel tells of a cgroup's memory: descriptors to poll.

Documentation/admin-guide/cgroup-v1/memory.rst (sections 9 to 11), cgroup-v2.rst (memory.events), accounting/psi.rst.
"""

from __future__ import annotations

import os
import select

from hakoniwa.kernel.cgroup import v2

# Of a second, how many microseconds tasks may stall for want of memory before a level is reached.
_STALLS = {"low": "some 50000", "medium": "some 150000", "critical": "full 150000"}
_WINDOW = 1_000_000


class MemoryEvent:
    """Something that may happen again and again: poll `descriptor` for `mask`, then ask `happened`."""

    def __init__(self, path: str, kind: str, level: str) -> None:
        """`kind` is "oom" or "memory_pressure". Raises OSError."""
        self._path = path
        self._counts = v2.is_group(path) and kind == "oom"
        self.mask = select.POLLPRI if v2.is_group(path) else select.POLLIN
        if self._counts:
            self.descriptor = os.open(f"{path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            self._last = self._kills()
        elif v2.is_group(path):
            self.descriptor = os.open(f"{path}/memory.pressure", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(self.descriptor, f"{_STALLS[level]} {_WINDOW}\0".encode())
        else:
            self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._register("memory.oom_control" if kind == "oom" else "memory.pressure_level", level, kind)

    def _register(self, file: str, level: str, kind: str) -> None:
        """Have a v1 group write to our eventfd."""
        subject = os.open(f"{self._path}/{file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = f"{self.descriptor} {subject}{'' if kind == 'oom' else ' ' + level}"
            v2.write(self._path, "cgroup.event_control", words)
        finally:
            os.close(subject)

    def _kills(self) -> int:
        """How often the group ran out of memory."""
        content = os.pread(self.descriptor, 4096, 0).decode()
        return int(dict(line.split() for line in content.splitlines()).get("oom", 0))

    def happened(self) -> bool:
        """Whether it has, now that the descriptor is ready; other events of the same file are none."""
        if self._counts:
            before, self._last = self._last, self._kills()
            return self._last > before
        if self.mask == select.POLLIN:
            try:
                os.eventfd_read(self.descriptor)
            except BlockingIOError:
                return False
        return True
