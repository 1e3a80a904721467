"""Runs `hako`, and notes what its processes load where they must not: watched.py bundle|sources NOTES WORDS...

A process must load nothing from the moment it refuses to import on, and nothing while its root is another than the host's:
that would execute files of a rootfs as root. NOTES is a file that gets a line for each step that is applied, and one for
each thing that was or was to be loaded. To be executed by an interpreter with `-IS`, as the launcher is. Nothing is imported
here that `hako` would miss. From the bundle it is as users have it, with modules there before they are needed; from the
sources nothing is.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NOTES = 120  # a descriptor that no process of hakoniwa closes
# Of those, the errors that steps have a hint for.
ERRORS = (1, 2, 12, 13, 16, 17, 19, 20, 22, 28, 30, 34, 38, 40, 95, 122)

_, _source, _notes, *_words = sys.argv
_opened = posix.open(_notes, posix.O_WRONLY | posix.O_APPEND)
posix.dup2(_opened, NOTES, False)
posix.close(_opened)
_status = posix.stat("/")
_root = (_status.st_dev, _status.st_ino)
_step = "none"
_maps = -1  # what is mapped into this process, as the host's /proc shows it
_mapped: set[str] = set()


def note(kind: str, what: str) -> None:
    """Write a line, whatever the process may still do."""
    posix.write(NOTES, f"{kind} {what}\n".encode())


def is_elsewhere() -> bool:
    """Whether this process is to load nothing."""
    status = posix.stat("/")
    return _maps != -1 or (status.st_dev, status.st_ino) != _root


def hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Note an import that has to look for its module, and a library that is loaded by name."""
    if event in ("import", "ctypes.dlopen") and is_elsewhere():
        note("loaded", f"{arguments[0]} in or after {_step}")


class Heard:
    """A finder that finds nothing: also what importlib imports by itself is heard."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        hear("import", (name,))


def mapped() -> set[str]:
    """The files that are mapped into this process."""
    content = b""
    while more := posix.pread(_maps, 65536, len(content)):
        content += more
    return {line.split(None, 5)[5] for line in content.decode().splitlines() if len(line.split(None, 5)) > 5}


def watch() -> None:
    """Put ourselves in the way of what matters."""
    from hakoniwa.kernel.processes import process
    from hakoniwa.run.process import child
    from hakoniwa.steps import step as steps

    guarded, close_imports, close_all_but = steps._guarded, child.close_imports, process.close_all_but
    refuse, refuse_codec = child._RefuseImports.find_spec, child._refuse_codec

    def noting_guarded(step: steps.Step, action: Callable[[steps.Context], None], context: steps.Context) -> None:
        global _step
        _step = f"{type(step).__name__}.{getattr(action, '__name__', '')}"
        if _step.endswith(".apply"):
            note("applied", type(step).__name__)
            for number in ERRORS:  # what an error of this step would say
                f"cannot {step}: {step.hint(OSError(number, 'wrong'))}"
            if type(step).__name__ == "Execute" and _maps != -1:
                for path in mapped() - _mapped:
                    note("loaded", path)
        guarded(step, action, context)

    def noting_close_imports() -> None:
        global _maps
        _maps = posix.open("/proc/self/maps", posix.O_RDONLY)
        _mapped.update(mapped())
        close_imports()

    def noting_refusal(name: str, path: object = None, target: object = None) -> None:
        hear("import", (name,))
        refuse(name, path, target)

    def noting_codec(name: str) -> None:
        note("loaded", f"encoding {name} in or after {_step}")
        refuse_codec(name)

    steps._guarded = noting_guarded
    child.close_imports = noting_close_imports
    child._RefuseImports.find_spec = staticmethod(noting_refusal)  # type: ignore[method-assign]
    child._refuse_codec = noting_codec
    process.close_all_but = lambda keep: close_all_but({*keep, NOTES, *([_maps] if _maps != -1 else [])})


def watch_as_if_there_were_apparmor() -> None:
    """Let it come to the request for a profile, which this kernel then refuses."""
    from hakoniwa.kernel.security import apparmor

    apparmor.attribute = lambda: "exec"
    apparmor.on_exec = lambda profile: f"exec {profile}"


def load_from_bundle() -> Any:
    """What the launcher calls in its last line. All before that is executed."""
    path = sys.executable.rpartition("/")[0] + "/hako"
    file = posix.open(path, posix.O_RDONLY)
    text = posix.read(file, 65536).decode()
    posix.close(file)
    lines, found, rest = text.rpartition("main()")
    assert (found, rest.strip()) == ("main()", ""), "what is the launcher's last line?"
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(lines, path, "exec"), names)
    assert type(sys.modules["hakoniwa.cli"].__loader__).__name__ == "_BundleFinder", "run `make install`"
    return names["main"]


def load_from_sources() -> Any:
    """The same, with each module loaded when it is imported, and not before."""
    environment = sys.executable.rpartition("/bin/")[0]  # which sys.prefix does not tell without `site`
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.insert(0, __file__.removesuffix("/tests/system/watched.py"))
    import hakoniwa  # noqa: F401  # from the checkout, and nothing else

    sys.path[:1] = [f"{environment}/lib/{version}/site-packages"]
    from hakoniwa import cli

    return cli.main


def main() -> None:
    """Be `hako`."""
    sys.argv = ["hako", *_words]
    run = load_from_bundle() if _source == "bundle" else load_from_sources()
    watch()
    if posix.environ.get(b"AS_IF_APPARMOR"):
        watch_as_if_there_were_apparmor()
    sys.meta_path.insert(0, Heard)
    sys.addaudithook(hear)
    run()


main()
