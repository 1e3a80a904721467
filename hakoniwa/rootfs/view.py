"""A program of the host that sees a rootfs as its container would: whole and in its place, for as long as it runs."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import mount
from hakoniwa.kernel.processes import process, signals
from hakoniwa.known import marks
from hakoniwa.rootfs.store.locks import hold_rootfs
from hakoniwa.rootfs.store.roots import root_at
from hakoniwa.run.process.task import Task
from hakoniwa.steps.files.root import CutOff
from hakoniwa.steps.step import Context, apply_all, program_status


def run_on_tree(path: str, argv: list[str], file: str) -> int:
    """Run `argv` with the tree of the rootfs at `path` mounted there, for it alone. Returns its exit status.

    The rootfs is locked until the last process that it has started is gone: each of them has the lock open.
    """
    lock = hold_rootfs(path)
    os.set_inheritable(lock, True)
    task = Task(lambda report: _become(path, argv, file, report), process.NAMESPACES["mount"])
    os.close(lock)
    for number in (signals.SIGINT, signals.SIGQUIT):
        signals.signal(number, signals.SIG_IGN)  # from the terminal they are for the program
    status = task.wait(argv[0])
    return status if status >= 0 else 128 - status


def _become(path: str, argv: list[str], file: str, report: int) -> None:
    """In the child: mount the tree and be the program."""
    mark = marks.read(path)
    host = mark is not None and mark.form == "host"
    context = Context(supervisor=-1, status=report, environ={})
    apply_all([CutOff(), root_at(path, mark.layers if mark is not None else (), host=host, file=file)], context)
    if host and not os.path.samestat(os.stat(path), os.fstat(context.root)):
        _put_on(path, context.root)  # for who is not root it was gathered elsewhere
    os.chdir(path)
    signals.reset_all()
    try:
        os.execvpe(argv[0], argv, {**os.environ, "ROOTFS": path})
    except OSError as error:
        status = program_status(error.errno or 0)
        raise HakoError(f"cannot execute {argv[0]!r}: {error.strerror}", where="mount", status=status) from None


def _put_on(path: str, tree: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount.attach(mount.clone_tree("", at=tree), folder)
