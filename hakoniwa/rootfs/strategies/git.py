"""`git`: a repository whose files are the rootfs; one commit of it, without its history."""

from __future__ import annotations

import os
import re
import subprocess

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import tree
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.environment import environment
from hakoniwa.rootfs.tools.programs import must_be_executable, run_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.spec.records import Bootstrap

SETTINGS = {"git_url": "repository", "git_ref": "argument", "git_options": "texts"}
HELP = {
    "git_url": "the repository",
    "git_ref": "a branch, a tag, or a commit by its whole hash",
    "git_options": "further options of git fetch",
}
EXAMPLE = """\
b.strategy = "git"
b.git_url = "https://example.org/rootfs.git"
b.git_ref = "main"                  # a branch, a tag or a commit
"""
KEPT = True

_ENVIRON = {
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",  # of submodules and redirections, too
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "advice.detachedHead",
    "GIT_CONFIG_VALUE_0": "false",
}
_COMMIT = re.compile("[0-9a-f]{40}([0-9a-f]{24})?")
_REFUSED = ("--upload-pack", "-u", "--exec", "--template", "-c", "--config", "--separate-git-dir", "--bare", "--mirror")
_PATIENCE = 60.0  # seconds to name a commit


def identify(boot: Boot, bootstrap: Bootstrap) -> Any:
    """The commit that the branch or tag points to now: its hash stands for all. Raises HakoError if it cannot be had."""
    return _commit(bootstrap)


def _commit(bootstrap: Bootstrap) -> str:
    must_be_executable("strategy 'git'", "git", bootstrap.where)
    url, ref = bootstrap.settings["git_url"], bootstrap.settings.get("git_ref", "HEAD")
    return ref if _COMMIT.fullmatch(ref) else _commit_of(url, ref, bootstrap.where)


def _commit_of(url: str, ref: str, where: str) -> str:
    words = ["git", "ls-remote", "--", url, ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
    environ = environment(_ENVIRON)
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise HakoError(f"{url} has not answered for {_PATIENCE:g} s", where=where) from None
    if done.returncode:
        said = "; ".join(done.stderr.strip().splitlines()[-3:])
        raise HakoError(f"git cannot read {url}", where=where, hint=said)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    found = {name: commit for commit, name in lines}
    for name in (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}", ref):
        if name in found:
            return found[name]
    raise HakoError(f"{url} has no branch or tag {ref!r}", where=where, hint="give a commit by its whole hash")


def fill(boot: Boot, bootstrap: Bootstrap) -> None:
    """Fetch that commit, check it out, and leave the repository itself out."""
    options = _checked(bootstrap.settings.get("git_options", ()), bootstrap.where)
    commit = boot.identity or _commit(bootstrap)  # the branch may have moved since
    url = bootstrap.settings["git_url"]
    folder = str(boot.rootfs)

    def git(told: str, *words: str) -> None:
        argv = ["git", *words]
        run_step("git", argv, where=bootstrap.where, folder=folder, progress=boot.progress, environ=_ENVIRON, told=told)

    git("preparing", "init", "--quiet")
    git(f"fetching {url}", "fetch", "--quiet", "--depth=1", *options, "--", url, commit)
    git("checking out", "checkout", "--quiet", "--detach", "FETCH_HEAD")
    if os.path.lexists(os.path.join(folder, ".gitmodules")):
        git("fetching submodules", "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
    _remove_repositories(folder)


def _remove_repositories(folder: str) -> None:
    """Remove each `.git`: that of a submodule is a file."""
    with tree.Place(folder) as place:
        for event, name in place.walk():
            if name != ".git":
                continue
            if event == tree.FILE:
                os.unlink(name, dir_fd=place.folder)
            elif event == tree.ENTERED:
                tree.empty(place.folder)
            else:
                os.rmdir(name, dir_fd=place.folder)


def _checked(options: tuple[str, ...], where: str) -> list[str]:
    """Options of `git fetch`; not those that name programs to run."""
    for option in options:
        flag = option.partition("=")[0]
        if not option.startswith("-") or flag in _REFUSED:
            hint = "options of `git fetch`, such as --ipv4; not those that name programs or other folders"
            raise HakoError(f"git_options cannot have {option!r}", where=where, hint=hint)
    return [*options]
