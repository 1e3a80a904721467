"""What is executed for a request of the library (client.py): `main`, with the words REQUEST ANSWER PROGRAM.

The three are descriptors: a file to read the request from, one for the answer, and a pidfd of the program that asks. The
request comes from that program alone, and this process is its child: it runs as who the program is.
"""

from __future__ import annotations

import gc
import json
import os
import sys

from hakoniwa import log, recordreader
from hakoniwa.errors import HakoError, joined
from hakoniwa.kernel.filesystem.files import wait_readable
from hakoniwa.kernel.processes import prctl, signals
from hakoniwa.library.request import Answer, Limits, Request
from hakoniwa.record import Unreadable, plain
from hakoniwa.refusal import refusals_of
from hakoniwa.run.prepare import Wanted, check_real_id, for_caller, prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from hakoniwa.known.joining import Target
    from hakoniwa.spec.records import Barn


class Served:
    """A request as this process carries it out. `answer` and `program` are the descriptors; it answers once."""

    request: Request

    def __init__(self, answer: int, program: int) -> None:
        self.program = program
        self._answer = answer
        os.register_at_fork(after_in_child=self._leave_answer)

    def _leave_answer(self) -> None:
        """A process that this one forks does not answer."""
        if self._answer != -1:
            os.close(self._answer)
            self._answer = -1

    def tell(self, answer: Answer) -> None:
        """Answer. That the program has gone meanwhile is no error."""
        if self._answer == -1:
            return
        content = json.dumps(plain(answer)).encode()
        try:
            while content:
                content = content[os.write(self._answer, content) :]
        except OSError:
            pass
        self._leave_answer()

    def fail(self, errors: list[HakoError]) -> None:
        """Answer with what has gone wrong."""
        self.tell(Answer(refusals=refusals_of(errors)))


def main() -> NoReturn:
    """Carry out the request, answer, and exit."""
    gc.disable()
    signals.begin()
    asked, answer, program = map(int, sys.argv[1:4])
    for descriptor in (asked, answer, program):
        os.set_inheritable(descriptor, False)
    prctl.end_with_parent(signals.SIGTERM)
    if wait_readable(program, seconds=0):
        os._exit(1)  # it ended before that was in force
    served = Served(answer, program)
    status = 125
    try:
        served.request = _read_request(asked)
        with signals.Undoing():
            status = _SERVE[served.request.what](served)
    except HakoError as error:
        status = error.status
        served.fail([error])
    except KeyboardInterrupt as interrupted:
        status = 128 + getattr(interrupted, "number", signals.SIGINT)
        served.fail([HakoError("interrupted", status=status)])
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        served.fail([HakoError(f"{where}{error.strerror or error}")])
    except Exception as error:
        import traceback

        traceback.print_exc()
        served.fail([HakoError(f"{type(error).__name__}: {error}")])
    log.flush_prints()
    os._exit(status)


def _read_request(descriptor: int) -> Request:
    """The request. Raises HakoError for what the library takes and no request can have, such as a number for a text."""
    with open(descriptor, "rb") as file:
        try:
            return recordreader.read(Request, json.load(file))
        except Unreadable as problem:
            raise HakoError(f"a value of the call is wrong: {problem}") from None


def _check_values(request: Request) -> None:
    """See that a request asks for nothing that a container file could not. Raises HakoError."""
    from hakoniwa.spec.rules import checks

    try:
        for who in (request.user, request.group):
            if who is not None:
                checks.user(who)
        for name, value in request.environ.items():
            checks.environment_item(name, value)
        if request.argv is not None:
            checks.arguments(request.argv)
        if request.workdir is not None:
            checks.absolute_path(request.workdir)
    except checks.Wrong as wrong:
        raise HakoError(f"a value of the call must be {wrong}") from None


def _load(served: Served, command: str) -> Barn:
    """What the request means, with its limits and its environment. Raises HakoError."""
    request = served.request
    _check_values(request)
    if request.spec is not None:
        from hakoniwa.library.functions import find_function
        from hakoniwa.spec.documents.plain import from_plain

        sys.path[:] = [*sys.path, *(entry for entry in request.path if entry not in sys.path)]
        barn = from_plain(request.spec, functions=find_function if request.functions else None)
    else:
        barn = _load_file(request, command)
        if request.file is not None and request.name is not None:
            barn = _renamed(barn, request.name)
    return _with_changes(barn, request)


def _load_file(request: Request, command: str) -> Barn:
    from hakoniwa.haco.loader import load, load_document, load_named

    if request.file is None:
        return load_named(request.name or "", command)
    return load_document(request.file) if request.file.endswith(".json") else load(request.file, command)


def _renamed(barn: Barn, name: str) -> Barn:
    (container, *others) = barn.containers
    if others:
        told = f"it defines several containers: {' '.join(one.name for one in barn.containers)}"
        raise HakoError(told, where=barn.file, hint="name= is for a file with one")
    hostname = name if container.hostname == container.name else container.hostname
    return barn.replace(name=name, containers=(container.replace(name=name, barn=name, hostname=hostname),))


def _with_changes(barn: Barn, request: Request) -> Barn:
    """The barn with the limits and the environment of a request."""
    limits = {word: value for word in Limits._fields if (value := getattr(request.limits, word)) is not None}
    if not limits and not request.environ:
        return barn
    changed = []
    for container in barn.containers:
        resources, process = container.resources, container.process
        changed.append(
            container.replace(
                resources=resources.replace(cgroup=resources.cgroup.replace(**limits)),
                process=process.replace(environ={**process.environ, **request.environ}),
            )
        )
    found = barn.replace(containers=tuple(changed))
    _must_fit(found)
    return found


def _must_fit(barn: Barn) -> None:
    """See that what a call has changed fits the rest. Raises HakoError."""
    from hakoniwa.spec.rules.rules import broken_rules, where_of

    errors = [
        HakoError(problem.message, where=where_of(barn.containers[problem.container], problem.path), hint=problem.hint)
        for problem in broken_rules(barn)
    ]
    if errors:
        raise joined(errors)


def _check(served: Served) -> int:
    _load(served, "check")
    served.tell(Answer())
    return 0


def _names(served: Served) -> int:
    served.tell(Answer(names=_names_of(served)))
    return 0


def _names_of(served: Served) -> tuple[str, ...]:
    """The names that a request means; a name that is given is looked up, and no file executed."""
    from hakoniwa.haco.loader import unknown
    from hakoniwa.known import listing

    request = served.request
    if request.file is not None or request.spec is not None:
        return tuple(container.name for container in _load(served, "check").containers)
    known = list(listing.heads())
    found = tuple(one.name for one in known if request.name in (one.name, one.barn))
    if not found:
        raise unknown(request.name or "", known)
    return found


def _create(served: Served) -> int:
    barn = _load(served, "create")
    check_real_id(barn)
    _build(barn, needed=True)
    served.tell(Answer(names=tuple(container.name for container in barn.containers)))
    return 0


def _build(barn: Barn, *, needed: bool) -> None:
    """Build the rootfs that are missing. `needed`: it is an error if there is no way to build one."""
    from hakoniwa.rootfs.build.options import BuildOptions
    from hakoniwa.rootfs.build.selection import build_missing

    build_missing(for_caller(barn), BuildOptions(quiet=True), needed=needed)


def _start(served: Served) -> int:
    """Start in the background; this process ends when the containers run."""
    from hakoniwa.run.barn.background import run_in_background

    request = served.request
    barn = _load(served, "start")
    check_real_id(barn)
    log.set_level(barn.log_level)
    _build(barn, needed=False)
    prepared = prepare(barn, Wanted(command=request.argv, background=True))
    _close_beside(barn)
    bound = served.program if request.bound else -1

    def clear() -> None:
        if request.forget and bound != -1 and wait_readable(bound, seconds=0):
            _forget(tuple(container.name for container in barn.containers))  # the program cannot do it any more

    running, errors = run_in_background(
        prepared.barn, prepared.launches, wait=request.wait, watch=False, bound=bound, at_end=clear
    )
    names = tuple(name for name, _ in running)
    if errors:
        _end_all(names)  # who asked has nothing to end them by
        if request.forget:
            _forget(tuple(container.name for container in barn.containers))
        served.fail(errors)
        return errors[0].status
    served.tell(Answer(names=names))
    return 0


def _end_all(names: tuple[str, ...]) -> None:
    from hakoniwa.known import state
    from hakoniwa.run.end import Ending, end

    end([found for name in names if (found := state.read(name)) is not None], Ending())


def _close_beside(barn: Barn) -> None:
    from hakoniwa.haco.beside import close_beside

    if barn.file:
        close_beside(os.path.dirname(barn.file))


def _run(served: Served) -> int:
    """Start in the foreground; this process has the program's streams, and ends with it."""
    from hakoniwa.run.barn.foreground import run_in_foreground

    barn = _load(served, "start")
    check_real_id(barn)
    log.set_level(barn.log_level)
    _build(barn, needed=False)
    prepared = prepare(barn, Wanted(command=served.request.argv))
    _close_beside(barn)
    status, errors = run_in_foreground(prepared.barn, prepared.launches, watch=False)
    if errors:
        served.fail(errors)
    else:
        served.tell(Answer(names=tuple(container.name for container in barn.containers), status=status))
    if served.request.forget:
        _forget(tuple(container.name for container in barn.containers))
    return status


def _forget(names: tuple[str, ...]) -> None:
    """Forget containers that had their names for once, with the rootfs that was made for them. What fails is logged."""
    from hakoniwa.known import state
    from hakoniwa.rootfs.forget import forget

    for name in names:
        try:
            if (known := state.known(name)) is not None:
                forget([known], rootfs=state.read_record(name) is not None)
        except (HakoError, OSError) as error:
            log.write(f"{name}: {error}", "error")


def _found(served: Served) -> Target:
    """The running container of a request's name. Raises HakoError."""
    from hakoniwa.known import state
    from hakoniwa.known.joining import Target

    name = served.request.name or ""
    found = state.read(name)
    if found is None or found.status != "running":
        raise HakoError("it does not run" if found else "there is no container of that name", where=name)
    return Target.of(found)


def _exec(served: Served) -> int:
    from hakoniwa.run.exec import Wanted as Process
    from hakoniwa.run.exec import run_to_end

    asked = served.request
    _check_values(asked)
    wanted = Process(
        command=asked.argv, user=asked.user, group=asked.group, environ=asked.environ, workdir=asked.workdir
    )
    status, lost = run_to_end(_found(served), wanted)
    if lost and status == 0:
        served.fail(lost)
    served.tell(Answer(status=status))
    return status


def _end(served: Served) -> int:
    from hakoniwa.known import state
    from hakoniwa.known.statefile import ALIVE
    from hakoniwa.run.end import GRACE, Ending, end

    request = served.request
    found = state.read(request.name or "")
    number = None if request.signal is None else _signal(request.signal)
    grace = GRACE if request.seconds is None else request.seconds
    if found is not None and found.status in ALIVE:
        waits = request.signal is None or request.seconds is not None
        errors = end([found], Ending(signal=number, grace=grace if waits else None))
        served.fail(errors)
        return 125 if errors else 0
    served.tell(Answer())
    return 0


def _signal(word: str) -> int:
    from hakoniwa.errors import nearest

    try:
        return signals.by_name(word)
    except ValueError:
        raise HakoError(f"signal {word!r} is unknown", hint=nearest(word, signals.names())) from None


def _remove(served: Served) -> int:
    from hakoniwa.known import state
    from hakoniwa.rootfs.forget import forget

    if served.request.forget:
        _forget((served.request.name or "",))
    else:
        known = [known for name in _names_of(served) if (known := state.known(name)) is not None]
        forget(known, rootfs=served.request.rootfs)
    served.tell(Answer())
    return 0


_SERVE: dict[str, Callable[[Served], int]] = {
    "check": _check,
    "names": _names,
    "create": _create,
    "start": _start,
    "run": _run,
    "exec": _exec,
    "end": _end,
    "remove": _remove,
}

if __name__ == "__main__":
    main()
