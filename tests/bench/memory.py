"""What a process costs in memory."""

from __future__ import annotations

from pathlib import Path


def pss(pid: int) -> int:
    """Its proportional set size in kB. Documentation/filesystems/proc.rst, smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError(pid)
