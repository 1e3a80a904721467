"""What the caller wants of a build."""

from __future__ import annotations

from hakoniwa.record import Record


class BuildOptions(Record):
    """How to build, and what to say meanwhile."""

    provision: bool = True
    rebuild: bool = False  # anew, in the place of what is there
    from_cache: bool = True  # take layers that were built before
    quiet: bool = False
    verbose: bool = False
