"""The base of all steps, and what they share while they are applied."""

from __future__ import annotations

import errno
import os

from hakoniwa.errors import NOT_EXECUTABLE, NOT_FOUND, HakoError
from hakoniwa.kernel.processes import prctl
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.kernel.security.users import Account


TTY_GROUP = 5  # Debian's, Fedora's and most others' group `tty`


class Context:
    """What the steps of one process share: what it was given, and what one step leaves for a later one.

    Descriptors are the process's own and close-on-exec; -1 stands for one that is not there.
    """

    def __init__(self, *, supervisor: int, status: int, environ: dict[str, str]) -> None:
        # Given: who it belongs to, and how to reach them.
        self.supervisor = supervisor  # a pidfd
        self.status = status  # the write end of the pipe that a failure is reported through
        self.front: Callable[[int], None] | None = None  # sends the master of the pty to who owns the terminal
        self.run_hooks: Callable[[str], None] = lambda point: None
        self.tell_executing: Callable[[], None] = lambda: None
        self.tell_held: Callable[[], None] = lambda: None
        # Given: its standard streams.
        self.null_streams: tuple[int, ...] = ()  # those that lead to the null device
        self.files: dict[int, int] = {}  # what the host's side has opened for some of them, by number
        # The way through the plan: the step that is applied, and what the host's root has opened, by the numbers of steps.
        self.number = -1
        self.provided: dict[int, list[int]] | None = None  # None: this process opens things itself
        # The files of the container. Left by the steps of its root, for those that mount below it.
        self.root = -1  # before it is entered
        self.null = -1  # the host's /dev/null, for masking files
        self.mask = -1  # it, as it was mounted over the first file
        self.empty = -1  # an empty file system, for masking folders
        self.devpts = -1  # the container's devpts, as a mount
        self.devpts_device: int | None = None  # and its device number, which is told at the end
        # Who it is. Left by the steps that join a user namespace, look the account up, and take its ids.
        self.may_set_groups = True  # not in a user namespace with a single group
        self.tty_group = TTY_GROUP  # -1 if it is not mapped
        self.account: Account | None = None
        self.permitted = 0  # the capabilities of the program
        # The program. Left by the preparation of the last steps, while the files are the host's.
        self.environ = environ
        self.trampoline = -1
        self.attributes = -1  # the folder that an AppArmor profile is asked for in
        self.init_program = -1  # the program of an init such as tini

    def opened(self) -> set[int]:
        """What preparing the steps has opened."""
        return {self.trampoline, self.attributes, self.init_program} - {-1}

    def take_provided(self) -> list[int] | None:
        """What was opened outside for the step that is being applied; None if this process opens things itself."""
        return None if self.provided is None else self.provided.pop(self.number, [])

    def look_at_user_namespace(self) -> None:
        """Note what this user namespace can do, while /proc is still the host's."""
        from hakoniwa.kernel.processes import idmap

        self.may_set_groups = idmap.may_set_groups()
        self.tty_group = TTY_GROUP if idmap.maps(idmap.read_map("self", "gid"), TTY_GROUP) else -1

    def the_account(self) -> Account:
        """The account, which an earlier step looked up."""
        assert self.account is not None
        return self.account


def write_own_file(name: str, text: str) -> None:
    """Write to a file of this process in the host's /proc. Raises OSError.

    Undumpable processes' files belong to root. An ordinary user's process may be looked into meanwhile: by others of
    that user, who may do so anyway.
    """
    try:
        file = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except PermissionError:
        with prctl.Dumpable():
            file = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"/proc/self/{name}") from None
    finally:
        os.close(file)


class Outside:
    """Where a process that is the host's root opens what the container's first process, which is not, cannot open."""

    def __init__(self, context: Context, pid: int, user_namespace: int) -> None:
        self.context = context  # `root` is filled in as in the container
        self.pid = pid  # the container's first process
        self.user_namespace = user_namespace  # of the container, or -1
        self.find_account: Callable[[], Account]  # the user of the program, for a step that wants it


class Step(Record):
    """One thing to do. `str()` completes "cannot ..."; `where` is the line of the file that asked for it."""

    where: str = ""

    def prepare(self, context: Context) -> None:
        """Load and open whatever `apply` needs from the host. No import comes after this: it would run the rootfs's code."""

    def apply(self, context: Context) -> None:
        """Do it. Raises OSError, or HakoError where more is known."""
        raise TypeError(f"{type(self).__name__} cannot be applied")

    def provide(self, outside: Outside) -> list[int]:
        """Open what takes the host's root; `apply` gets it by `context.take_provided`."""
        return []

    def hint(self, error: OSError) -> str:
        """The way out of a failure, as far as the step knows one."""
        return ""


class AwaitsMaps(Step):
    """A step that waits for the id maps of this process, and then makes it undumpable.

    Whoever is not root writes them by newuidmap, which wants /proc/PID to be the user's (`man 5 proc_pid`).
    """


class HookPoint(Step):
    """Stands between steps; they know nothing of hooks."""

    point: str

    def __str__(self) -> str:
        return f"run the {self.point} hooks"

    def apply(self, context: Context) -> None:
        context.run_hooks(self.point)


class Wait(Step):
    """Wait at a gate that the supervisor opens by writing to it, and that ends when it is gone."""

    gate: int
    what: str = "the hooks outside"

    def __str__(self) -> str:
        return f"wait for {self.what}"

    def apply(self, context: Context) -> None:
        opened = os.read(self.gate, 1)
        os.close(self.gate)
        if not opened:
            os._exit(1)  # what has failed outside is told there


def apply_all(steps: Sequence[Step], context: Context) -> None:
    """Apply the steps in order. Raises HakoError that names the step, the reason and the way out."""
    for context.number, step in enumerate(steps):
        _guarded(step, step.apply, context)


def prepare_all(steps: Sequence[Step], context: Context) -> None:
    """Load and open what the steps need. Raises HakoError as `apply_all` does."""
    for step in steps:
        _guarded(step, step.prepare, context)


def provide_all(steps: Sequence[Step], outside: Outside) -> tuple[bytes, list[int]]:
    """What all steps have the host's root open, and a message that says which is whose. Raises HakoError as `apply_all` does."""
    opened: list[int] = []
    owners: list[int] = []
    for number, step in enumerate(steps):
        _guarded(step, lambda _, step=step: opened.extend(step.provide(outside)), outside.context)  # type: ignore[misc]
        owners += [number] * (len(opened) - len(owners))
    return b"".join(owner.to_bytes(2, "little") for owner in owners), opened


def sort_provided(owners: bytes, opened: Sequence[int]) -> dict[int, list[int]]:
    """What `provide_all` has opened in another process, by the numbers of the steps."""
    provided: dict[int, list[int]] = {}
    for at, descriptor in enumerate(opened):
        provided.setdefault(int.from_bytes(owners[2 * at : 2 * at + 2], "little"), []).append(descriptor)
    return provided


def _guarded(step: Step, action: Callable[[Context], None], context: Context) -> None:
    try:
        action(context)
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else ""
        reason = error.strerror or str(error)
        if path and path not in str(step):
            reason = f"{path}: {reason}"
        raise HakoError(f"cannot {step}: {reason}", where=step.where, hint=step.hint(error)) from None


def program_status(error: int) -> int:
    """127 when the program is not there, 126 when it cannot be executed; as the shell has it."""
    return NOT_FOUND if error == errno.ENOENT else NOT_EXECUTABLE
