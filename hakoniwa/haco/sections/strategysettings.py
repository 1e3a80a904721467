"""The settings of strategies for editors and type checkers. tools/write_strategies.py writes this file: do not edit it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import Any, Literal


class StrategySettings:
    """What strategies take; see docs/guide.md for which takes what."""

    debian_release: str | None
    """debootstrap: the release, such as "bookworm"; lxc: --release of the template."""
    variant: str | None
    """debootstrap: such as "minbase"."""
    components: Sequence[str] | str | None
    """debootstrap: of the mirror, such as "main"."""
    mirror_url: str | None
    """debootstrap: the mirror; the one that apt uses unless set; lxc: --mirror of the template."""
    arch: str | None
    """debootstrap: the architecture; lxc: --arch of the template."""
    tool: Literal["debootstrap", "mmdebstrap"] | None
    """debootstrap: the program that builds it."""
    git_url: str | None
    """git: the repository."""
    git_ref: str | None
    """git: a branch, a tag, or a commit by its whole hash."""
    git_options: Sequence[str] | None
    """git: further options of git fetch."""
    os_type: str | None
    """lxc: a template of lxc-create."""
    project_name: str | None
    """lxc: the name that the template is told; the container's unless set."""
    lxc_options: Sequence[str] | None
    """lxc: further options of the template."""
    code: str | Callable[[Any], object] | None
    """python: a function that gets boot, or a text that finds boot and rootfs; shell: a script for /bin/sh -e."""
    recipe: str | None
    """recipe: the name of an executable in bootstrap/."""
    archive_path: str | os.PathLike[str] | None
    """tarball: a tar archive beside the file, or its https:// URL."""
    sha256: str | None
    """tarball: the digest of the archive, needed with a URL."""
    tar_options: Sequence[str] | None
    """tarball: further options of GNU tar."""
