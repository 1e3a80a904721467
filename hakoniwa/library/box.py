"""`Box`, `Running`, `run` and `load`: containers as objects of a Python program.

Each call executes a process that does what `hako` would do, and waits for it; the program itself is never forked, and may
have threads. Calls may be made from several threads at once, for many boxes. In a coroutine, `asyncio.to_thread(box.run, …)`
keeps the loop free; `Box.run_async` and `Running.run_async` also end what they have begun when they are cancelled.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hakoniwa.errors import HakoError
from hakoniwa.haco.container import ContainerBuilder
from hakoniwa.haco.facade import Definition
from hakoniwa.known import state
from hakoniwa.known.statefile import ALIVE, State
from hakoniwa.library import client
from hakoniwa.library.definition import describe, has_a_name, read_limits
from hakoniwa.library.request import Request
from hakoniwa.spec.rules.checks import Wrong
from hakoniwa.spec.rules.checks import name as check_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, Self

    Source = str | os.PathLike[str] | ContainerBuilder | Definition | Mapping[str, Any]
    Limit = Mapping[str, int | float | str | None]

LARGEST = 64 << 20  # bytes that are kept of each output, unless another number is given


class Box:
    """What may run as containers: a container file, a spec, a container that is known by its name, or a definition.

    ``source`` is the path of a file (a string with a ``/`` or that ends with ``.py`` or ``.json``, or any path object), a document as
    ``hako inspect --spec`` prints it, as a dict, the name of a container that ``hako ps --all`` lists, or what ``Haconiwa.define()`` has
    given. A definition without a name gets one of its own, so
    that a program may have many at once; ``name`` gives it one, as it gives one to the container of a file.

    Nothing is executed or made before a method is called. Raises HakoError for a name that cannot be one, and Problems for what
    is wrong in a definition.
    """

    def __init__(self, source: Source, *, name: str | None = None) -> None:
        if name is not None:
            try:
                check_name(name)
            except Wrong as wrong:
                raise HakoError(f"the name of a box must be {wrong}, not {name!r}") from None
        self._request = _request_of(source, name)

    def __repr__(self) -> str:
        meant = self._request.file or self._request.name
        return f"Box({meant!r})" if meant else "Box(of a definition)"

    def check(self) -> None:
        """Load and validate what is described, and change nothing. Raises HakoError, or Problems with all that is wrong."""
        client.call(self._request.replace(what="check"))

    def create(self) -> None:
        """Build the rootfs when it is missing, and take the steps of provisioning that are due. Raises HakoError."""
        client.call(self._request.replace(what="create"))

    def start(
        self,
        argv: Sequence[str] | None = None,
        *,
        wait: bool = False,
        limit: Limit | None = None,
        bound: bool = True,
    ) -> Running:
        """Start in the background, and return when the program runs; with ``wait``, when the containers are ready.

        ``argv`` is executed in the place of the definition's own command. ``limit`` are the arguments of ``config.limit()``:
        ``{"memory": "256M", "cpus": 0.5, "pids": 100}``. With ``bound``, the containers end when this program does, however it
        ends; without, they go on, and ``Box(name)`` finds them again. Raises HakoError when they cannot be started.
        """
        asked = self._request.replace(
            what="start", argv=_words(argv), wait=wait, limits=read_limits(limit), bound=bound, path=_path()
        )
        return Running(client.call(asked).names, forget=asked.forget)

    def run(
        self,
        argv: Sequence[str] | None = None,
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        limit: Limit | None = None,
        environ: Mapping[str, str] | None = None,
        check: bool = False,
        largest: int = LARGEST,
    ) -> client.Completed:
        """Run a program in a container of its own to its end, and return it completed, its output as bytes.

        The exit status is that of `hako start`: 128 + n after signal n, 126 and 127 for a program that cannot be executed or is
        not there. ``input`` is what it reads; else it reads nothing. ``largest`` bytes of each output are kept, and ``dropped`` of
        the result says how many were not. Raises HakoError when hakoniwa itself fails, subprocess.TimeoutExpired after
        ``timeout`` seconds, when the container has ended, and with ``check`` subprocess.CalledProcessError for a failure.
        """
        done = client.communicate(self._run_request(argv, limit, environ), input, timeout, largest)
        if check:
            done.check_returncode()
        return done

    async def run_async(
        self,
        argv: Sequence[str] | None = None,
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        limit: Limit | None = None,
        environ: Mapping[str, str] | None = None,
        check: bool = False,
        largest: int = LARGEST,
    ) -> client.Completed:
        """As `run`, in a coroutine. The container ends when that is cancelled."""
        done = await _cancellable(self._run_request(argv, limit, environ), input, timeout, largest)
        if check:
            done.check_returncode()
        return done

    def _run_request(
        self, argv: Sequence[str] | None, limit: Limit | None, environ: Mapping[str, str] | None
    ) -> Request:
        return self._request.replace(
            what="run", argv=_words(argv), limits=read_limits(limit), environ=dict(environ or {}), path=_path()
        )

    @property
    def running(self) -> Running | None:
        """The containers of this box that run, or None. Raises HakoError for a definition that cannot be loaded."""
        names = client.call(self._request.replace(what="names")).names
        running = tuple(name for name in names if (found := state.read(name)) and found.status in ALIVE)
        return Running(running) if running else None

    def remove(self, *, rootfs: bool = False) -> None:
        """Forget the containers, which must not run, and remove their rootfs when asked to. Raises HakoError."""
        client.call(self._request.replace(what="remove", rootfs=rootfs))


class Running:
    """One container that runs, or several of one barn. As a context manager it ends them."""

    def __init__(self, names: tuple[str, ...], *, forget: bool = False) -> None:
        self.names = names
        self._forget = forget  # they have their names for once
        self._owner = os.getpid()
        if forget:
            atexit.register(self._end_at_exit)

    def __repr__(self) -> str:
        return f"Running({' '.join(self.names)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def __getitem__(self, name: str) -> Running:
        """One of several, by its name. Raises KeyError."""
        if name not in self.names:
            raise KeyError(name)
        return Running((name,))

    @property
    def name(self) -> str:
        """The name of the one container. Raises HakoError for several."""
        if len(self.names) != 1:
            raise HakoError(f"these are several containers: {' '.join(self.names)}", hint="choose one: running[NAME]")
        return self.names[0]

    @property
    def status(self) -> str:
        """``running``, ``created`` (held), ``stopped``, ``failed`` or ``dead``, as `hako ps` has it. Raises HakoError."""
        return self._state().status

    @property
    def pid(self) -> int:
        """The first process, as the host sees it. It may have ended by now. Raises HakoError."""
        return self._state().init.pid

    @property
    def supervisor_pid(self) -> int:
        """The process beside the container. Raises HakoError."""
        return self._state().supervisor.pid

    @property
    def exit_status(self) -> int | None:
        """What the container has exited with, 128 + n after signal n; None while it runs. Raises HakoError."""
        end = self._state().exit
        return None if end is None else end.code

    def _state(self) -> State:
        found = state.read(self.name)
        if found is None:
            raise HakoError(f"container {self.name!r} is not known any more")
        return found

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        user: int | str | None = None,
        group: int | str | None = None,
        environ: Mapping[str, str] | None = None,
        workdir: str | None = None,
        check: bool = False,
        largest: int = LARGEST,
    ) -> client.Completed:
        """Run a command inside, as `hako attach` does, and return it completed; all else as in `Box.run`.

        ``user`` and ``group`` are numbers, or names of the container's own. The command ends at ``timeout``; what it leaves running
        ends with the container.
        """
        asked = self._exec_request(argv, user, group, environ, workdir)
        done = client.communicate(asked, input, timeout, largest)
        if check:
            done.check_returncode()
        return done

    async def run_async(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        timeout: float | None = None,
        user: int | str | None = None,
        group: int | str | None = None,
        environ: Mapping[str, str] | None = None,
        workdir: str | None = None,
        check: bool = False,
        largest: int = LARGEST,
    ) -> client.Completed:
        """As `run`, in a coroutine. The command ends when that is cancelled."""
        asked = self._exec_request(argv, user, group, environ, workdir)
        done = await _cancellable(asked, input, timeout, largest)
        if check:
            done.check_returncode()
        return done

    def _exec_request(
        self,
        argv: Sequence[str],
        user: int | str | None,
        group: int | str | None,
        environ: Mapping[str, str] | None,
        workdir: str | None,
    ) -> Request:
        return Request(
            what="exec",
            name=self.name,
            argv=_words(argv),
            user=user,
            group=group,
            environ=dict(environ or {}),
            workdir=workdir,
        )

    def kill(self, signal: str | None = None, *, timeout: float | None = None) -> None:
        """End the containers as `hako kill` does: TERM, and KILL when they have not ended after 10 seconds, or ``timeout``.

        With a ``signal`` that is sent and not waited for. That nothing runs any more is no error. What has a name of its own, since
        the definition had none, is forgotten once it has ended. Raises HakoError.
        """
        for name in self.names:
            client.call(Request(what="end", name=name, signal=signal, seconds=timeout))
        if self._forget and signal is None:
            self._forget = False
            atexit.unregister(self._end_at_exit)
            for name in self.names:
                client.call(Request(what="remove", name=name, forget=True))

    def _keep(self) -> None:
        """Let them go on when the program ends, under their names."""
        self._forget = False
        atexit.unregister(self._end_at_exit)

    def _end_at_exit(self) -> None:
        if os.getpid() == self._owner:  # and no process that it has forked, which may exit before
            self.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the one container, and return its exit status. Raises TimeoutError after ``timeout`` seconds."""
        return client.wait(self.name, timeout)


def run(
    source: Source,
    argv: Sequence[str] | None = None,
    *,
    input: bytes | None = None,
    timeout: float | None = None,
    limit: Limit | None = None,
    environ: Mapping[str, str] | None = None,
    check: bool = False,
    largest: int = LARGEST,
) -> client.Completed:
    """Run a program in a box to its end, and leave nothing of it behind: `Box(source).run(argv, …)`."""
    return Box(source).run(
        argv, input=input, timeout=timeout, limit=limit, environ=environ, check=check, largest=largest
    )


def load(source: Source) -> Box:
    """A box whose definition has been loaded and validated. Raises HakoError, or Problems with all that is wrong."""
    box = Box(source)
    box.check()
    return box


def _request_of(source: Source, name: str | None) -> Request:
    if isinstance(source, Definition):
        source = source.builder
    if isinstance(source, ContainerBuilder):
        once = name is None and not has_a_name(source)
        token = f"{os.getpid()}-{secrets.token_hex(4)}" if once else ""
        return Request(what="check", spec=describe(source, name, token), functions=True, name=name, forget=once)
    if isinstance(source, Mapping):
        return Request(what="check", spec=dict(source), name=name)
    text = os.fspath(source)
    if not isinstance(text, str):
        raise TypeError(f"a box must be a path, a name or a definition, not {source!r}")
    if isinstance(source, os.PathLike) or "/" in text or text.endswith((".py", ".json")) or os.path.isfile(text):
        return Request(what="check", file=os.path.abspath(text), name=name)
    if name is not None:
        raise HakoError(f"{text!r} is a name already", hint="name= goes with a file or a definition")
    return Request(what="check", name=text)


def _words(argv: Sequence[str] | None) -> tuple[str, ...] | None:
    """A command. A string would be taken apart into its characters."""
    if isinstance(argv, str):
        raise TypeError("argv must be a list of arguments, not a string")
    return None if argv is None else tuple(map(os.fspath, argv))


def _path() -> tuple[str, ...]:
    return tuple(os.path.abspath(entry) for entry in sys.path)


class _Stop:
    """What asks a call in another thread to end: a descriptor that becomes readable. That thread closes it."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._is_closed = False

    def set(self) -> None:
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self.descriptor)


async def _cancellable(request: Request, input: bytes | None, timeout: float | None, largest: int) -> client.Completed:
    """`communicate` in a thread of its own: those that asyncio has are few, and what waits for one would keep others waiting.

    When the coroutine is cancelled, what was begun is ended, and that is waited for.
    """
    import asyncio
    from concurrent.futures import Future

    stop, work = _Stop(), Future[client.Completed]()

    def communicate() -> None:
        try:
            done = client.communicate(request, input, timeout, largest, stop.descriptor)
        except BaseException as error:
            stop.close()
            work.set_exception(error)
        else:
            stop.close()
            work.set_result(done)

    try:
        threading.Thread(target=communicate, name="hakoniwa", daemon=True).start()
    except RuntimeError as error:
        stop.close()
        raise HakoError(f"no thread can be had to wait in: {error}") from None
    done = asyncio.wrap_future(work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        stop.set()
        while not done.done():
            with contextlib.suppress(asyncio.CancelledError):  # it is being ended already
                await asyncio.wait([done])
        done.exception()  # is of nobody's interest
        raise
    finally:
        stop.set()  # the coroutine may have been given up
