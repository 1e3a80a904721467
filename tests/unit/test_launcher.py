"""The launcher and its bundle, in a copy of the project: what is executed from where."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hakoniwa

PROJECT = Path(hakoniwa.__file__).parents[1]
FROM = """
import sys
for name, module in list(sys.modules.items()):
    if name.split(".")[0] == "hakoniwa":
        print(name, type(module.__spec__.loader).__name__)
"""

Found = dict[str, str]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with a launcher of its own."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT / "hakoniwa", folder / "hakoniwa", ignore=shutil.ignore_patterns("*.bundle"))
    (folder / "tools").mkdir()
    for name in ("write_launcher.py", "bodies.py", "executed.txt"):
        shutil.copy(PROJECT / "tools" / name, folder / "tools")
    install(folder)
    return folder


def install(project: Path) -> None:
    subprocess.run([sys.executable, project / "tools" / "write_launcher.py", project / "hako"], check=True)


def hako(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([project / "hako", *words], capture_output=True, text=True, check=False)


def loaded(project: Path, *words: str) -> Found:
    """The modules that a command has before its `main` is called, with the kind of what loaded each."""
    (project / "shown").write_text((project / "hako").read_text().removesuffix("main()\n") + FROM)
    (project / "shown").chmod(0o755)
    done = subprocess.run([project / "shown", *words], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def bundle(project: Path) -> Path:
    (found,) = (project / "hakoniwa" / "__pycache__").glob("*.bundle")
    return found


def change(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


def test_each_command_gets_what_it_needs_from_the_bundle(project: Path) -> None:
    found = {word: loaded(project, word) for word in ("start", "run", "attach", "kill", "version", "ps")}
    for word, modules in found.items():
        assert set(modules.values()) == {"_BundleFinder"}, word
    assert found["run"] == found["start"]
    assert "hakoniwa.commands.run.start" in found["start"]
    assert set(found["ps"]) < set(found["version"])
    assert set(found["ps"]) < set(found["kill"])
    assert "hakoniwa.commands.upkeep.version" in found["version"]
    assert not any(name.startswith(("hakoniwa.haco", "hakoniwa.steps")) for name in found["kill"])


def test_modules_are_as_the_import_system_makes_them(project: Path) -> None:
    code = """
import sys
for name in ["hakoniwa", "hakoniwa.kernel", "hakoniwa.kernel.filesystem.files"]:
    module = sys.modules[name]
    spec = module.__spec__
    print([module.__name__, module.__package__, module.__file__, getattr(module, "__path__", None)])
    print([spec.name, spec.parent, spec.origin, spec.submodule_search_locations, spec.has_location])
assert sys.modules["hakoniwa"].kernel.filesystem.files is module
"""
    text = (project / "hako").read_text()
    told = []
    for begin in (text.removesuffix("main()\n"), f"import sys; sys.path.insert(0, {str(project)!r})\n"):
        words = [sys.executable, "-IS", "-c", f"{begin}\nimport hakoniwa.kernel.filesystem.files\n{code}", "attach"]
        told.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert told[0] == told[1]
    assert "_BundleFinder" in loaded(project, "attach")["hakoniwa.kernel.filesystem.files"]


def test_a_source_that_has_changed_is_executed_anew(project: Path) -> None:
    change(
        project / "hakoniwa" / "commands" / "upkeep" / "version.py",
        lambda text: text.replace("hakoniwa {", "changed {"),
    )
    assert hako(project, "version").stdout == f"changed {hakoniwa.__version__}\n"
    assert [name for name, kind in loaded(project, "version").items() if kind != "_BundleFinder"] == []
    change(project / "hakoniwa" / "record.py", lambda text: text + "\nCHANGED = True\n")
    found = loaded(project, "start")
    assert [name for name, kind in found.items() if kind != "_BundleFinder"] == ["hakoniwa.record"]
    change(project / "hakoniwa" / "kernel" / "__init__.py", lambda text: text + "\nCHANGED = True\n")
    assert loaded(project, "start")["hakoniwa.kernel"] == "SourceFileLoader"
    assert hako(project, "start", "--help").returncode == 0


def test_a_package_that_has_changed_leaves_all_to_the_import_system(project: Path) -> None:
    change(project / "hakoniwa" / "__init__.py", lambda text: text.replace('__version__ = "', '__version__ = "9'))
    assert hako(project, "version").stdout == f"hakoniwa 9{hakoniwa.__version__}\n"
    assert set(loaded(project, "start").values()) == {"SourceFileLoader"}


@pytest.mark.parametrize("content", [None, b"", b"\xcb\r\r\n of another interpreter"], ids=["none", "empty", "another"])
def test_without_a_bundle_that_fits_the_import_system_does_it(project: Path, content: bytes | None) -> None:
    bundle(project).unlink()
    if content is not None:
        (project / "hakoniwa" / "__pycache__" / f"start.{sys.implementation.cache_tag}.bundle").write_bytes(content)
    assert hako(project, "version").stdout == f"hakoniwa {hakoniwa.__version__}\n"
    assert set(loaded(project, "start").values()) == {"SourceFileLoader"}


def executed(project: Path, code: str, command: str) -> str:
    """What code prints that is executed in the place of the launcher's last line."""
    text = (project / "hako").read_text().removesuffix("main()\n")
    words = [sys.executable, "-IS", "-c", f"{text}{code}", command]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


def replacing(project: Path) -> str:
    """Code that puts another bundle in the place of the one that the launcher has read."""
    (project / "other").write_bytes(bytes(1 << 20))
    return f"import os; os.rename({str(project / 'other')!r}, {str(bundle(project))!r})\n"


CLOSING = "sys.meta_path[0].file = os.close(sys.meta_path[0].file) or -1\n"


def test_another_bundle_that_takes_its_place_meanwhile_is_not_read(project: Path) -> None:
    """What is imported later comes from the bundle that the index is of, or from its source."""
    later = "import hakoniwa.steps.files.gather as late; print(type(late.__spec__.loader).__name__)"
    assert executed(project, later, "start") == "_BundleFinder\n"
    assert executed(project, f"import os\n{CLOSING}{later}", "start") == "_BundleFinder\n"
    assert executed(project, replacing(project) + later, "start") == "_BundleFinder\n"
    install(project)
    assert executed(project, replacing(project) + CLOSING + later, "start") == "SourceFileLoader\n"


SELDOM = """

class Seldom:
    shown = "as {}".format("text")

    def __init__(self, value: int = -5, *parts: int, more: tuple[str, ...] = ("a", "b")) -> None:
        self.value, self.parts, self.more = value, parts, more

    @property
    def twice(self) -> int:
        return self.value * 2

    @classmethod
    def make(cls, value: int) -> "Seldom":
        return cls(value, 1, 2, more=())

    def __str__(self) -> str:
        return f"{self.shown} {self.twice}"

    def __len__(self) -> int:
        return seldom(self.parts)

    def fail(self) -> None:
        raise LookupError("here")


class More(Seldom):
    def __init__(self) -> None:
        super().__init__(7)

    def fail(self) -> None:
        Seldom.fail(self)


def seldom(parts: tuple[int, ...], begin: int = 40) -> int:
    return len(parts) + begin


def changed(found: list[int] = []) -> list[int]:
    return found


def twice() -> int:
    return 1


twice = twice
"""

USING = """
import hakoniwa.commands.upkeep.version as v
kinds = [type(vars(v)[name]).__name__ for name in ("run", "seldom", "changed", "twice")]
kinds += [type(vars(v.Seldom)[name]).__name__ for name in ("__str__", "twice", "make")]
one, two = v.Seldom(), v.Seldom.make(3)
print(kinds, one.value, one.parts, one.more, one.twice, two, len(two), v.seldom.__name__, v.Seldom.fail.__qualname__)
assert one.fail == one.fail and v.changed() is v.changed() and v.Seldom.__str__(v.More()) == str(v.More()) == "as text 14"
try:
    v.seldom()
except TypeError as error:
    print(error)
try:
    v.More().fail()
except LookupError as error:
    trace = error.__traceback__.tb_next
    while trace:
        print(trace.tb_frame.f_code.co_qualname, trace.tb_frame.f_code.co_filename == v.__file__, trace.tb_lineno)
        trace = trace.tb_next
"""


def test_what_is_seldom_executed_is_read_when_it_is_called(project: Path) -> None:
    source = project / "hakoniwa" / "commands" / "upkeep" / "version.py"
    change(source, lambda text: text + SELDOM)
    install(project)
    lines = source.read_text().splitlines()
    told = executed(project, USING, "version").splitlines()
    assert told[:2] == [
        "['function', 'Later', 'function', 'function', 'Later', 'property', 'classmethod'] "
        "-5 () ('a', 'b') -10 as text 6 42 seldom Seldom.fail",
        "seldom() missing 1 required positional argument: 'parts'",
    ]
    raised = lines.index('        raise LookupError("here")') + 1
    assert told[-3:-1] == [
        f"More.fail True {lines.index('        Seldom.fail(self)') + 1}",
        "Later.__call__ False " + told[-2].split()[-1],
    ]
    assert told[-1] == f"Seldom.fail True {raised}"
    assert executed(project, replacing(project) + USING, "version").splitlines() == told
    install(project)
    assert executed(project, f"import os\n{CLOSING}{USING}", "version").splitlines() == told


@pytest.mark.parametrize("gone", ["replaced", "closed to imports"])
def test_a_function_that_cannot_be_read_is_told(project: Path, gone: str) -> None:
    """Never is it taken from what the same path leads to in another root."""
    prepare = replacing(project) if gone == "replaced" else "import os\n"
    code = f"""{prepare}finder = sys.meta_path[0]
{CLOSING}if {gone == "closed to imports"}: sys.meta_path.clear()
from hakoniwa import options
try:
    options.help_text(None)
except ImportError as error:
    print(error)
"""
    assert executed(project, code, "version") == "the bundle was replaced: hakoniwa was installed anew meanwhile\n"


def test_a_module_that_fails_is_told_as_everything_is(project: Path) -> None:
    change(project / "hakoniwa" / "record.py", lambda text: text.replace("def plain(", "1 / 0\n\n\ndef plain("))
    assert "hakoniwa.options" not in loaded(project, "version"), "it imports what fails"
    done = hako(project, "version")
    assert done.returncode == 125
    assert done.stderr == "hako: ZeroDivisionError: division by zero (--debug shows the traceback)\n"
    shown = hako(project, "version", "--debug").stderr
    number = (project / "hakoniwa" / "record.py").read_text().splitlines().index("1 / 0") + 1
    assert f'{project}/hakoniwa/record.py", line {number}, in <module>\n    1 / 0\n' in shown


def test_tracebacks_have_files_lines_and_text(project: Path) -> None:
    change(
        project / "hakoniwa" / "commands" / "upkeep" / "version.py",
        lambda text: text.replace("    print(", "    raise LookupError('here')\n    print("),
    )
    install(project)
    assert loaded(project, "version")["hakoniwa.commands.upkeep.version"] == "_BundleFinder"
    shown = hako(project, "version", "--debug").stderr
    for file, function, text in [
        ("cli.py", "main", "_run("),
        ("commands/upkeep/version.py", "run", "raise LookupError"),
    ]:
        assert f'{project}/hakoniwa/{file}", line ' in shown
        assert f", in {function}\n" in shown
        assert text in shown


def test_shared_objects_are_where_they_were_when_it_was_installed(project: Path) -> None:
    """Nobody looks for them in folders; one that has gone is looked for as ever."""
    text = (project / "hako").read_text().removesuffix("main()\n")
    gone = text.replace('names["load"]', 'libraries = dict.fromkeys(libraries, "/none")\nnames["load"]')
    assert gone != text
    show = """
import _ctypes
spec = _ctypes.__spec__
print(spec.loader and type(spec.loader).__name__, spec.origin == getattr(_ctypes, "__file__", None), len(sys.path_importer_cache))
"""
    told = []
    for begin in (text, gone):
        words = [sys.executable, "-IS", "-c", begin + show, "attach"]
        told.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    if told[0][0] == "ExtensionFileLoader":
        assert told[0][:2] == told[1][:2] == ["ExtensionFileLoader", "True"]
        assert int(told[0][2]) < int(told[1][2])
