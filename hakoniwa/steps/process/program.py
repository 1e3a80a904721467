"""The payload: its streams, its folder, and the program itself."""

from __future__ import annotations

import errno
import os
import stat

from hakoniwa.errors import NOT_EXECUTABLE, NOT_FOUND, HakoError
from hakoniwa.host.paths import open_outside
from hakoniwa.kernel.filesystem import paths
from hakoniwa.kernel.processes import signals, trampoline
from hakoniwa.steps.step import Context, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from hakoniwa.spec.held import Stream

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELLS = ("/bin/bash", "/bin/sh")
TRAMPOLINE_FD = 5


class Redirect(Step):
    """Lead standard streams to files: of the host, by pipes, or (as the container's user) of the container."""

    streams: tuple[Stream, ...]

    def __str__(self) -> str:
        return "redirect " + ", ".join(f"{stream.number} to {stream.path}" for stream in self.streams)

    def apply(self, context: Context) -> None:
        for stream in self.streams:
            file = open_stream(stream) if stream.inside else context.files[stream.number]
            os.dup2(file, stream.number)
            os.close(file)


def open_stream(stream: Stream) -> int:
    """Open the file that a stream is led to. Raises HakoError; the descriptor is the caller's."""
    flags = os.O_RDONLY if stream.number == 0 else os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        if not stream.inside:
            # Not waiting for the other side of a FIFO: a signal that comes just before would not end that.
            return open_outside(stream.path, flags | os.O_NOCTTY | os.O_NONBLOCK, 0o644)
        return os.open(stream.path, flags | os.O_NOCTTY | os.O_CLOEXEC, 0o644)
    except OSError as error:
        side = "inside" if stream.inside else "on the host"
        hint = "the folder must be there and writable for the user" if stream.number else "the file must be there"
        raise HakoError(
            f"cannot redirect stream {stream.number} to {stream.path} {side}: {error.strerror}",
            where=stream.where,
            hint="nobody reads that FIFO yet" if error.errno == errno.ENXIO else hint,
        ) from None


class EnterWorkdir(Step):
    """Go to the working folder; it is resolved without magic links, so that no open descriptor leads out (CVE-2024-21626)."""

    path: str

    def __str__(self) -> str:
        return f"enter the folder {self.path}"

    def apply(self, context: Context) -> None:
        root = os.open("/", paths.O_PATH)
        folder = paths.open_inside(root, self.path)
        os.fchdir(folder)
        os.close(folder)
        os.close(root)
        os.getcwd()  # fails when the folder is not below the root

    def hint(self, error: OSError) -> str:
        return "workdir must be a folder inside" if error.errno in (errno.ENOENT, errno.ENOTDIR) else ""


class OpenAttributes(Step):
    """Open the folder that the AppArmor profile is asked for in, while /proc is the host's."""

    def __str__(self) -> str:
        return "open the security attributes"

    def prepare(self, context: Context) -> None:
        from hakoniwa.kernel.security import apparmor

        context.attributes = apparmor.attributes_of("self")

    def apply(self, context: Context) -> None:
        """It is open already."""


class ReceiveAttributes(Step):
    """Take that folder from a process that is still on the host."""

    channel: _socket.socket

    def __str__(self) -> str:
        return "take the folder of the security attributes"

    def prepare(self, context: Context) -> None:
        import hakoniwa.kernel.descriptors  # noqa: F401

    def apply(self, context: Context) -> None:
        from hakoniwa.kernel import descriptors

        received = descriptors.receive(self.channel)
        if received is None:
            os._exit(1)  # what has failed there is told there
        (context.attributes,) = received[1]


class Execute(Step):
    """Become the payload, by way of the trampoline."""

    command: tuple[str, ...] | None
    init: str | None
    idle: bool = False  # nothing of the container's: wait
    apparmor: str | None = None
    filters: tuple[bytes, ...] = ()  # seccomp programs
    init_where: str = ""
    apparmor_where: str = ""

    def __str__(self) -> str:
        words = " ".join(self.command) if self.command else "nothing, and wait" if self.idle else " or ".join(SHELLS)
        held = f" under the AppArmor profile {self.apparmor}" if self.apparmor else ""
        held += (
            f" under {len(self.filters)} seccomp filter{'s' if len(self.filters) > 1 else ''}" if self.filters else ""
        )
        return f"execute {self.init + ' -- ' if self.init else ''}{words}{held}"

    def prepare(self, context: Context) -> None:
        attribute = request = ""
        if self.apparmor:
            from hakoniwa.kernel.security import apparmor

            try:
                attribute, request = apparmor.attribute(), apparmor.on_exec(self.apparmor)
            except HakoError as error:
                error.where = self.apparmor_where
                raise
        context.trampoline = trampoline.prepare(attribute=attribute, request=request, filters=self.filters)
        if self.idle:
            from hakoniwa.kernel.processes import idle

            context.init_program = idle.sealed()
        elif self.init:
            context.init_program = _open_init(self.init, self.init_where)

    def apply(self, context: Context) -> None:
        path, arguments = self._find(context)
        context.tell_executing()
        _arrange(context)
        trampoline.execute(TRAMPOLINE_FD, path, arguments, context.environ, context.permitted)

    def _find(self, context: Context) -> tuple[str, list[str]]:
        """The program (empty for the one that is open already) and its arguments, the first of which is its name."""
        if self.idle:
            signals.signal(signals.SIGCHLD, signals.SIG_IGN)  # the kernel reaps what others leave
            return "", ["idle"]
        command = self.command or (self._shell(),)
        path = find_program(command[0], context.environ.get("PATH", DEFAULT_PATH), self.where)
        return ("", [str(self.init), "--", path, *command[1:]]) if self.init else (path, [*command])

    def _shell(self) -> str:
        """The first shell that is there."""
        for shell in SHELLS[:-1]:
            if os.access(shell, os.X_OK):
                return shell
        return SHELLS[-1]


def _arrange(context: Context) -> None:
    """Put the descriptors where the trampoline expects them: 3 the status pipe, 4 an init's program, 5 itself, 6 attributes."""
    wanted = {
        trampoline.STATUS_FD: context.status,
        trampoline.PROGRAM_FD: context.init_program,
        TRAMPOLINE_FD: context.trampoline,
        trampoline.ATTRIBUTES_FD: context.attributes,
    }
    # First out of the way of each other, then in place.
    moved = {number: _above(held, trampoline.ATTRIBUTES_FD) for number, held in wanted.items() if held != -1}
    for number, held in moved.items():
        # The trampoline's own may be close-on-exec: the kernel has opened the program by then. The others survive it.
        os.dup2(held, number, inheritable=number != TRAMPOLINE_FD)


def _above(number: int, least: int) -> int:
    """`number`, or a copy of it that is above `least`."""
    while number <= least:
        number = os.dup(number)
    return number


def find_program(program: str, search: str, where: str = "") -> str:
    """The absolute path of `program` inside. Raises HakoError with status 127 (not there) or 126 (not executable)."""
    if "/" in program:
        candidates = [os.path.join(os.getcwd(), program)]
        missing = HakoError(f"there is no program {program!r} inside", where=where, status=NOT_FOUND)
    else:
        candidates = [os.path.join(folder, program) for folder in search.split(":") if folder.startswith("/")]
        missing = HakoError(
            f"there is no program {program!r} inside", where=where, hint=f"PATH is {search}", status=NOT_FOUND
        )
    unusable = ""
    for path in candidates:
        try:
            regular = stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                unusable = f"{path}: {error.strerror}"
            continue
        if regular and os.access(path, os.X_OK):
            return path
        unusable = f"{path}: {'not executable by this user' if regular else 'not a regular file'}"
    if unusable:
        raise HakoError(f"cannot execute {unusable}", where=where, hint="chmod +x", status=NOT_EXECUTABLE)
    raise missing


def _open_init(name: str, where: str) -> int:
    """The program of an installed init, copied to sealed memory: the rootfs need not have it, and cannot change it."""
    folders = [*DEFAULT_PATH.split(":"), "/usr/libexec/podman"]
    hint = f"apt-get install {name}"
    for candidate in (f"{name}-static", name) if name == "tini" else (name,):
        for folder in folders:
            path = os.path.join(folder, candidate)
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError:
                continue
            if _is_static(content):
                return trampoline.sealed(content, name)
            hint = f'{path} needs libraries, which the rootfs may lack: config.init = "catatonit" needs none'
    raise HakoError(f"no static {name} is installed", where=where, hint=hint)


def _is_static(elf: bytes) -> bool:
    """Whether a 64-bit ELF file asks for no interpreter (PT_INTERP), and so needs no library of the rootfs. `man 5 elf`."""
    if elf[:5] != b"\x7fELF\2":
        return False
    table, size, count = (int.from_bytes(elf[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    return all(int.from_bytes(elf[table + i * size : table + i * size + 4], "little") != 3 for i in range(count))
