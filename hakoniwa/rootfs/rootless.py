"""Work on a root file system as root of a user namespace of the caller's: its files belong to many ids.

What is built has the ids of the container that it is for, so that it is started as it was built; removing takes all ids of
the caller's (ids.py).
"""

from __future__ import annotations

import os

from hakoniwa import ids, log
from hakoniwa.errors import HakoError
from hakoniwa.kernel import idmap, process, signals
from hakoniwa.places import cache_dir, lib_dir, log_dir, run_dir
from hakoniwa.run.process.report import read_report, read_to_end, tell_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.spec.records import Maps


def as_root(action: Callable[[], object], maps: Maps | None = None) -> None:
    """Call `action` as root: here, or in a child that is root of a user namespace. Raises what it raises.

    `maps` are those of that namespace; without them it has all ids of the caller's.
    """
    if os.geteuid() == 0:
        action()
        return
    maps = maps if maps is not None and maps.uids else ids.caller_maps()
    # For root, whom the child takes itself for, these would be others.
    places = {"RUN": run_dir(), "LIB": lib_dir(), "CACHE": cache_dir(), "LOG": log_dir()}
    go_reader, go_writer = os.pipe2(os.O_CLOEXEC)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    log.flush_prints()
    try:
        pid, pidfd = process.clone(process.NAMESPACES["user"] | process.NAMESPACES["mount"])
    except OSError as error:
        raise HakoError(f"cannot make a user namespace: {error.strerror}", hint=ids.why_no_user_namespace()) from None
    if pid == 0:
        os.close(go_writer)
        os.environ.update({f"HAKONIWA_{word}_DIR": folder for word, folder in places.items()})
        _act(action, go_reader, writer)
    os.close(go_reader)
    os.close(writer)
    try:
        ids.establish(pid, maps)
        os.write(go_writer, b".")
    finally:
        os.close(go_writer)
        told = _hear(reader, pidfd)
        os.close(reader)
        os.close(pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if failure := read_report(told, "").failure:
        raise failure
    if status:
        raise HakoError(f"the process that works on the rootfs has ended with status {status}")


def _hear(report: int, child: int) -> bytes:
    """What the child tells until it ends. It is asked to end when this process is."""
    try:
        return read_to_end(report, child)
    except signals.Interrupted:
        signals.pidfd_send_signal(child, signals.SIGTERM)
        read_to_end(report, child)
        raise


def _act(action: Callable[[], object], go: int, report: int) -> None:
    """In the child: wait for the maps, then act. Never returns."""
    try:
        if os.read(go, 1):
            idmap.become_root_inside(idmap.may_set_groups())
            action()
        log.flush_prints()
        os._exit(0)
    except HakoError as error:
        tell_failure(report, error)
    except KeyboardInterrupt:
        tell_failure(report, HakoError("interrupted"))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell_failure(report, HakoError(f"{where}{error.strerror or error}"))
    except BaseException as error:
        tell_failure(report, HakoError(f"{type(error).__name__}: {error}"))
    finally:
        log.flush_prints()
        os._exit(1)
