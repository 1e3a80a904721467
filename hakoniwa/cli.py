"""`hako`: find the command, run it, print what went wrong, exit. The only place that does the last two."""

from __future__ import annotations

import gc
import os
import sys

from hakoniwa import log
from hakoniwa.errors import FAILED, USAGE, HakoError, nearest
from hakoniwa.kernel.processes import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

    from hakoniwa.options import Command, Given

# The commands, each with the room of hakoniwa.commands that its module lies in, and with what it does.
COMMANDS = {
    "new": ("build", "write a commented container file (alias: init)"),
    "check": ("build", "load and validate a container file, and change nothing"),
    "create": ("build", "build the rootfs"),
    "provision": ("build", "take the steps of provisioning that are due"),
    "archive": ("build", "pack the rootfs into a file"),
    "start": ("run", "run the container (alias: run)"),
    "release": ("run", "have a held container execute its program"),
    "attach": ("run", "run a command, or a shell, inside"),
    "forward": ("run", "have ports of the host lead inside until Ctrl-C"),
    "reload": ("run", "read the file again, and apply what may change"),
    "kill": ("run", "end the container"),
    "ps": ("run", "list containers"),
    "status": ("run", "tell how the containers of a file fare"),
    "logs": ("run", "print what a background container has printed"),
    "inspect": ("run", "print the full definition as JSON"),
    "snapshot": ("build", "keep the rootfs as it is under a name"),
    "rollback": ("build", "put the rootfs back to a snapshot"),
    "mount": ("build", "run a program of the host on the whole rootfs of a stopped container"),
    "clone": ("build", "make another container's rootfs a copy"),
    "cache": ("build", "list or prune the layers that rootfs are made of"),
    "rm": ("upkeep", "forget a stopped container"),
    "network": ("upkeep", "list, show or remove the bridges that are ours"),
    "gc": ("upkeep", "clear whatever a crash has left"),
    "version": ("upkeep", "print hakoniwa's version"),
    "revisions": ("upkeep", "print the versions of what is used, and what the kernel offers"),
}
ALIASES = {"init": "new", "run": "start", "--version": "version"}
LATER = ("checkpoint", "restore")


def main() -> NoReturn:
    """Run the command line of this process and exit with its status."""
    if not sys.flags.isolated:
        # Called by pip's launcher: begin again where neither the environment nor a folder of the caller adds modules.
        os.execv(sys.executable, [sys.executable, "-I", "-m", "hakoniwa", *sys.argv[1:]])
    gc.disable()  # an eighth of a start; a supervisor, which lives on, switches it on again
    words = sys.argv[1:]
    signals.begin()
    _open_standard_streams()
    try:
        status = _run(words)
    except HakoError as error:
        _print_error(error, "--debug" in words)
        status = error.status
    except KeyboardInterrupt as interrupted:
        log.write("interrupted", "error")
        status = 128 + getattr(interrupted, "number", signals.SIGINT)
    except BrokenPipeError:
        status = 0  # who read our output has had enough
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _print_error(HakoError(f"{where}{error.strerror or error}"), "--debug" in words)
        status = 125
    except Exception as error:
        _print_error(
            HakoError(f"{type(error).__name__}: {error}", hint="--debug shows the traceback"), "--debug" in words
        )
        status = 125
    _exit(status)


def _exit(status: int) -> NoReturn:
    """Leave without taking the interpreter apart, which would cost a millisecond and change nothing."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # who read our output has had enough
    except OSError as error:
        log.write(f"cannot write to standard output: {error.strerror}", "error")
        status = status or FAILED
    except ValueError:
        pass  # the file has closed it
    log.flush_prints()
    os._exit(status)


def _open_standard_streams() -> None:
    """A closed stream would be the number of the next file that is opened, and so reach the container."""
    for number in (0, 1, 2):
        try:
            if os.get_inheritable(number):
                continue
        except OSError:
            pass
        # Closed, or taken by what the interpreter opened since, which is close-on-exec as no stream of the caller's is.
        null = os.open(os.devnull, os.O_RDWR)
        if null == number:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, number)
            os.close(null)
    # The interpreter has None for a stream that was closed when it began.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def _run(words: list[str]) -> int:
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        raise HakoError("refusing to run set-uid or set-gid", hint="remove the bit: chmod ug-s")
    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) < 2:
            print(_overview())
            return 0 if words else USAGE
        words = [words[1], "--help"]
    name = ALIASES.get(words[0], words[0])
    if name in LATER:
        raise HakoError("this command is not supported yet", where=name, status=USAGE)
    if name not in COMMANDS:
        raise HakoError(f"unknown command {words[0]!r}", hint=nearest(words[0], [*COMMANDS]), status=USAGE)
    module = _import(name)
    from hakoniwa import options

    given = options.read(module.COMMAND, words[1:])
    if given.flag("help"):
        print(options.help_text(module.COMMAND))
        return 0
    given = _find_file(module.COMMAND, given)
    status: int
    if module.COMMAND.undone:
        with signals.Undoing():
            status = module.run(given)
    else:
        status = module.run(given)
    return status


def _find_file(command: Command, given: Given) -> Given:
    """The command line with the one FILE of this folder where it was left out, and with a name that stands in its place as one."""
    if command.file != "needed":
        return given
    if given.file is None:
        instead = (*command.instead, *(("name", "target") if command.by_name else ()))
        named = any(given.value(option) is not None for option in instead)
        return given if named else given.replace(file=_only_file(command.name))
    if not command.by_name or os.path.isfile(given.file):
        return given
    from hakoniwa.commands.selection import take_as_name

    return take_as_name(given)


def _import(name: str) -> ModuleType:
    room, _ = COMMANDS[name]
    package = __import__(f"hakoniwa.commands.{room}.{name}")
    module: ModuleType = getattr(getattr(package.commands, room), name)
    return module


def _only_file(command: str) -> str:
    """The one container file of this folder. Raises HakoError where there is none, or more than one."""
    found = sorted(entry for entry in os.listdir() if entry.endswith(".haco.py"))
    if len(found) == 1:
        return found[0]
    what = f"there are {len(found)} *.haco.py files here" if found else "there is no *.haco.py file here"
    raise HakoError(what, where=command, hint="name one" if found else "hako new dev.haco.py writes one", status=USAGE)


def _overview() -> str:
    lines = ["usage: hako COMMAND [options] [FILE] [-- ARGV...]", ""]
    lines += [f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join([*lines, "", "hako COMMAND --help tells more."])


def _print_error(error: HakoError, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    log.write_error(error)
