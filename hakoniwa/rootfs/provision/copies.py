"""`provision.copy`: files of the host into a rootfs that is not trusted; no symlink in it leads out."""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import paths
from hakoniwa.kernel.security.users import UnknownUser, find_account
from hakoniwa.rootfs.tools.digests import Content, copy_digest
from hakoniwa.rootfs.tools.sources import read_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import ProvisionStep

_NEW = ".hakoniwa-copy"


def copy_in(step: ProvisionStep, root: int, hashed: str) -> None:
    """Copy a file to `target` (below it if that is a folder), or a folder's content into it. Raises HakoError.

    `hashed` is what the step is remembered by: what is copied must be what it was made from.
    """
    uid, gid = _owner(step, root)
    content = Content()
    try:
        times: list[tuple[str, os.stat_result]] = []
        for name, entry in read_tree(step.source):
            content.begin(name, entry)
            if stat.S_ISDIR(os.fstat(entry).st_mode):
                _make_folder(step, name, entry, root, (uid, gid), times)
            elif name:
                _copy_file(step, entry, root, os.path.join(step.target, name), (uid, gid), content)
            else:
                target = step.target
                if target.endswith("/") or _is_folder(root, target):
                    target = os.path.join(target, os.path.basename(step.source))
                _copy_file(step, entry, root, target, (uid, gid), content)
        _set_times(root, times)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise HakoError(f"cannot copy {step.source} to {step.target}: {what}", where=step.where) from None
    if copy_digest(step, content.digest()) != hashed:
        told = f"{step.source} was changed while it was being copied"
        raise HakoError(told, where=step.where, hint="try again, once nobody writes to it")


def _owner(step: ProvisionStep, root: int) -> tuple[int, int]:
    texts = []
    for path in ("/etc/passwd", "/etc/group"):
        try:
            texts.append(paths.read_inside(root, path))
        except FileNotFoundError:
            texts.append("")
    try:
        account = find_account(texts[0], texts[1], step.uid, step.gid, ())
    except UnknownUser as unknown:
        told = str(unknown)
        raise HakoError(told, where=step.where, hint="give a number") from None
    return account.uid, account.gid


def _is_folder(root: int, path: str) -> bool:
    try:
        found = paths.open_inside(root, path)
    except OSError:
        return False
    try:
        return stat.S_ISDIR(os.fstat(found).st_mode)
    finally:
        os.close(found)


def _make_folder(
    step: ProvisionStep,
    name: str,
    entry: int,
    root: int,
    owner: tuple[int, int],
    times: list[tuple[str, os.stat_result]],
) -> None:
    target = os.path.join(step.target, name) if name else step.target
    there = _is_folder(root, target)
    folder = paths.make_inside(root, target, folder=True)
    if name or not there:  # a target that was there keeps its owner
        status = os.fstat(entry)
        os.chown(f"/proc/self/fd/{folder}", *owner)
        os.chmod(f"/proc/self/fd/{folder}", stat.S_IMODE(status.st_mode))
        times.append((target, status))
    os.close(folder)


def _set_times(root: int, times: list[tuple[str, os.stat_result]]) -> None:
    """The times of folders, last: each file that is put in changes them."""
    for target, status in reversed(times):
        folder = paths.open_inside(root, target)
        os.utime(f"/proc/self/fd/{folder}", ns=(status.st_atime_ns, status.st_mtime_ns))
        os.close(folder)


def _copy_file(
    step: ProvisionStep, entry: int, root: int, target: str, owner: tuple[int, int], content: Content
) -> None:
    """Make a new file or link beside the target, and rename it: what is there is replaced, not written through."""
    above, _, last = target.rstrip("/").rpartition("/")
    folder = paths.make_inside(root, above or "/", folder=True)
    if not stat.S_ISDIR(os.fstat(folder).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), above)
    status = os.fstat(entry)
    try:
        _remove(folder, _NEW)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink("", dir_fd=entry), _NEW, dir_fd=folder)
        elif stat.S_ISREG(status.st_mode):
            _copy_content(entry, folder, content)
        else:
            source = os.readlink(f"/proc/self/fd/{entry}")
            raise HakoError(f"cannot copy {source}: neither a file, a folder nor a symlink", where=step.where)
        os.chown(_NEW, *owner, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            mode = step.mode if step.mode is not None else stat.S_IMODE(status.st_mode)
            file = os.open(_NEW, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.fchmod(file, mode)
            os.close(file)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(_NEW, ns=times, dir_fd=folder, follow_symlinks=False)
        os.rename(_NEW, last, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        _remove(folder, _NEW)
        os.close(folder)


def _copy_content(entry: int, folder: int, content: Content) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(_NEW, flags, 0o600, dir_fd=folder), "wb") as copy:
        for text in content.texts(entry):
            copy.write(text)


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
