"""The base of all steps, and what they share while they are applied."""

from __future__ import annotations

from hakoniwa.errors import NOT_EXECUTABLE, NOT_FOUND, HakoError
from hakoniwa.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hakoniwa.kernel.users import Account


class Context:
    """What one step leaves for a later one. Descriptors are the child's own and close-on-exec."""

    def __init__(self, *, supervisor: int, status: int, environ: dict[str, str]) -> None:
        self.supervisor = supervisor  # a pidfd
        self.status = status  # the write end of the pipe that a failure is reported through
        self.environ = environ  # of the payload
        self.root = -1  # the root of the container, before it is entered
        self.null = -1  # the host's /dev/null, for masking files
        self.devpts = -1  # the container's devpts, as a mount
        self.front: Callable[[int], None] | None = None  # sends the master of the pty to who owns the terminal
        self.account: Account | None = None
        self.trampoline = -1
        self.init_program = -1  # the program of an init such as tini, or -1
        self.facts: dict[str, object] = {}  # what the supervisor is told once the payload runs
        self.run_hooks: Callable[[str], None] = lambda point: None
        self.report_facts: Callable[[], None] = lambda: None

    def the_account(self) -> Account:
        """The account, which an earlier step looked up."""
        assert self.account is not None
        return self.account


class Step(Record):
    """One thing to do. `str()` completes "cannot ..."; `where` is the line of the file that asked for it."""

    where: str = ""

    def prepare(self, context: Context) -> None:
        """Load and open whatever `apply` needs from the host. No import comes after this: it would run the rootfs's code."""

    def apply(self, context: Context) -> None:
        """Do it. Raises OSError, or HakoError where more is known."""
        raise TypeError(f"{type(self).__name__} cannot be applied")

    def hint(self, error: OSError) -> str:
        """The way out of a failure, as far as the step knows one."""
        return ""


class HookPoint(Step):
    """Stands between steps; they know nothing of hooks."""

    point: str

    def __str__(self) -> str:
        return f"run the {self.point} hooks"

    def apply(self, context: Context) -> None:
        context.run_hooks(self.point)


def apply_all(steps: Sequence[Step], context: Context) -> None:
    """Apply the steps in order. Raises HakoError that names the step, the reason and the way out."""
    for step in steps:
        _guarded(step, step.apply, context)


def prepare_all(steps: Sequence[Step], context: Context) -> None:
    """Load and open what the steps need. Raises HakoError as `apply_all` does."""
    for step in steps:
        _guarded(step, step.prepare, context)


def _guarded(step: Step, action: Callable[[Context], None], context: Context) -> None:
    try:
        action(context)
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else ""
        reason = error.strerror or str(error)
        if path and path not in str(step):
            reason = f"{path}: {reason}"
        raise HakoError(f"cannot {step}: {reason}", where=step.where, hint=step.hint(error)) from None


def program_status(errno: int) -> int:
    """127 when the program is not there, 126 when it cannot be executed; as the shell has it."""
    return NOT_FOUND if errno == 2 else NOT_EXECUTABLE
