"""The small parts: records, JSON, errors, options, users, undo, the trampoline."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from hakoniwa import fastjson, options, recordreader
from hakoniwa.errors import HakoError, Problems, nearest, printable
from hakoniwa.kernel.libc import compile_file
from hakoniwa.kernel.processes import idle, signals, trampoline
from hakoniwa.kernel.processes.pidfd import identify
from hakoniwa.kernel.security import capabilities
from hakoniwa.kernel.security.users import Account, UnknownUser, find_account
from hakoniwa.record import Record, Unreadable, plain
from hakoniwa.run.start.undo import Undo
from hakoniwa.steps.process import program
from hakoniwa.steps.step import Context

# Records


class Point(Record):
    """For these tests."""

    x: int
    y: int = 2


class Named(Point):
    """A subclass of one."""

    name: str


def test_a_record_is_frozen_and_compares_by_value() -> None:
    point = Point(x=1)
    assert (point.x, point.y) == (1, 2)
    assert point == Point(x=1, y=2) != Point(x=1, y=3)
    assert point.replace(y=5) == Point(x=1, y=5)
    assert repr(Named(x=1, name="n")) == "Named(x=1, y=2, name='n')"
    with pytest.raises(AttributeError, match="frozen"):
        point.x = 3  # type: ignore[misc]


@pytest.mark.parametrize("begin", ["", "from __future__ import annotations\n"])
def test_a_record_wants_its_annotations_as_texts(begin: str) -> None:
    """What an interpreter makes of others depends on its version: Python 3.14 makes them when it is asked for them."""
    values: dict[str, Any] = {"Record": Record, "__name__": "lazy"}
    code = compile(f"{begin}class Lazy(Record):\n    x: int\n    y: int = 2", "lazy", "exec", dont_inherit=True)
    if begin:
        exec(code, values)
        assert values["Lazy"](x=1)._fields == ("x", "y")
    else:
        with pytest.raises(TypeError, match="lazy has a record: begin it with `from __future__ import annotations`"):
            exec(code, values)


SEND_AFTER = """
import os, socket
from hakoniwa.steps.process.standard import OpenTerminal
from hakoniwa.run.process import child
from hakoniwa.run.terminal.front import descriptors
ours, theirs = descriptors.open_pair()
OpenTerminal(streams=(0,)).prepare(None)
child.close_imports()
child.send_master(theirs.fileno(), 1)
print(len(descriptors.receive(ours)[1]))
"""


def test_the_terminal_is_handed_over_without_an_import() -> None:
    done = subprocess.run([sys.executable, "-c", SEND_AFTER], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_a_record_wants_its_fields() -> None:
    with pytest.raises(TypeError, match="lacks 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="has no"):
        Point(x=1, z=2)  # type: ignore[call-arg]


def test_plain_is_what_json_can_say() -> None:
    assert plain({"p": (Point(x=1), print, "s", None, 1.5)}) == {"p": [{"x": 1, "y": 2}, "print", "s", None, 1.5]}


# JSON


VALUES: list[object] = [
    *(None, True, False, 0, 1, 2**64, -(2**63), -1.5, 1e300, 1e-7, "", [], {}, [[]], [{}], {"": {}}, [True, None, 1.0]),
    *('ä"\\\n\x00\u2028', "\r\t\b\f\x1b\x7f\x80/", "\U0001f600\uffff", "\ud83d", "\udcff x"),
    {"a": [1, {"b": None}], "c": "d", 'ä"': [-0.0, "x", []]},
]


@pytest.mark.parametrize("value", VALUES)
def test_fastjson_agrees_with_json(value: object) -> None:
    assert fastjson.dumps(value) == json.dumps(value)
    assert fastjson.loads(json.dumps(value, indent=2)) == value


def test_fastjson_takes_what_is_like_plain_data() -> None:
    class Word(str):  # one of an enumeration, for instance
        def __str__(self) -> str:
            return "no"

    assert fastjson.dumps((Word("a"), signal.SIGTERM, Point(x=1))) == '["a", 15, {"x": 1, "y": 2}]'
    names = {7: 1, True: 2, None: 3, 1.5: 4}
    assert fastjson.dumps(names) == json.dumps(names)
    for value in (float("nan"), float("inf"), {1}, b"x", object(), {(1,): 2}):
        with pytest.raises((TypeError, ValueError)):
            fastjson.dumps(value)


NO_JSON = [
    "",
    "{",
    "nul",
    '{"a": 1} x',
    "[1,]",
    '{"a',
    '{"a": "',
    '{"a": "\\',
    '{"a": "\\ud8',
    '"a\nb"',
    "[" * 100_000,
    "1" * 5000,
]


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:10])
def test_fastjson_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any of them is right
        fastjson.loads(text)


def test_fastjson_refuses_it_without_json_being_loaded() -> None:
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from hakoniwa import fastjson
for text in {NO_JSON!r}:
    try:
        fastjson.loads(text)
    except ValueError:
        continue
    print(text)
"""
    done = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


# Records that are read


class Inner(Record):
    number: int


class Written(Record):
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    share: float = 0.5
    either: int | str | None = None
    several: tuple[Inner, ...] = ()
    named: dict[str, int] = {}
    anything: Any = None


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


GOOD = {"name": "n", "kind": "b", "inner": {"number": 1}}


def test_a_record_is_read_as_it_was_written() -> None:
    written = Written(
        name="n",
        kind="a",
        inner=Inner(number=-1),
        either="x",
        several=(Inner(number=2),),
        named={"a": 1},
        anything=[{}],
    )
    assert recordreader.read(Written, fastjson.loads(fastjson.dumps(written))) == written
    assert recordreader.read(Written, json.loads(json.dumps(plain(written)))) == written


def test_what_has_a_default_may_be_missing() -> None:
    assert recordreader.read(Written, GOOD) == Written(name="n", kind="b", inner=Inner(number=1))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "must be an object, not a list"),
        ({"name": "n", "kind": "a"}, "lacks 'inner'"),
        ({**GOOD, "inner": {}}, "inner: lacks 'number'"),
        ({**GOOD, "inner": 3}, "inner: must be an object, not 3"),
        ({**GOOD, "inner": {"number": True}}, "inner.number: must be int, not true"),
        ({**GOOD, "inner": {"number": 1.0}}, "inner.number: must be int, not 1.0"),
        ({**GOOD, "inner": {"number": 10**30}}, "inner.number: must be int, not 1000000000000000000000000000000"),
        ({**GOOD, "kind": "c"}, "kind: must be one of a b, not 'c'"),
        ({**GOOD, "kind": []}, "kind: must be one of a b, not a list"),
        ({**GOOD, "name": None}, "name: must be str, not null"),
        ({**GOOD, "name": "n", "\x1b[31m": 1}, "has an unknown '\\x1b[31m'"),
        ({**GOOD, "share": "1"}, "share: must be float, not '1'"),
        ({**GOOD, "either": {}}, "either: must be int | str | None, not an object"),
        ({**GOOD, "several": {}}, "several: must be a list, not an object"),
        ({**GOOD, "several": [{"number": 1}, {}]}, "several.[]: lacks 'number'"),
        ({**GOOD, "named": {"k": "v"}}, "named.k: must be int, not 'v'"),
        ({**GOOD, "anything": nested(65)}, "anything: is nested too deeply"),
    ],
)
def test_what_is_no_record_is_told_by_its_place(value: object, problem: str) -> None:
    with pytest.raises(Unreadable) as raised:
        recordreader.read(Written, value)
    assert str(raised.value) == problem


# Errors


def test_an_error_says_where_what_and_how() -> None:
    error = HakoError("it is wrong", where="a.haco.py:3", hint="do this")
    assert error.lines() == ["a.haco.py:3: it is wrong (do this)"]
    assert Problems([error, error]).lines() == error.lines() * 2


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[2Jb", r"a\x1b[2Jb"), ("a\u202eb", r"a\u202eb"), ("\udcff", r"\udcff"), ("ä €", "ä €")]
)
def test_nothing_printed_moves_the_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_the_nearest_word() -> None:
    assert nearest("nett", ["net", "uts"]) == "did you mean 'net'?"
    assert nearest("nofile", ["NOFILE"]) == "did you mean 'NOFILE'?"
    assert nearest("zzz", ["net", "uts"]) == "known: net uts"


# Command lines

COMMAND = options.Command(
    name="do",
    summary="Do.",
    options=(
        options.Option(flags=("-D", "--daemon"), help=""),
        options.Option(flags=("-b", "--build"), help=""),
        options.Option(flags=("-n", "--name"), value="N", help=""),
    ),
    takes_argv=True,
)


@pytest.mark.parametrize(
    ("words", "found", "file", "argv"),
    [
        ([], {}, None, None),
        (["f"], {}, "f", None),
        (["-Db", "f"], {"daemon": True, "build": True}, "f", None),
        (["f", "-n", "x"], {"name": "x"}, "f", None),
        (["-nx"], {"name": "x"}, None, None),
        (["--name=x=y"], {"name": "x=y"}, None, None),
        (["f", "--", "-D", "--"], {}, "f", ("-D", "--")),
        (["-n", "-x"], {"name": "-x"}, None, None),
    ],
)
def test_command_lines(
    words: list[str], found: dict[str, object], file: str | None, argv: tuple[str, ...] | None
) -> None:
    given = options.read(COMMAND, words)
    assert (given.options, given.file, given.argv) == (found, file, argv)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--deamon"], "unknown option --deamon (did you mean '--daemon'?)"),
        (["-x"], "unknown option -x"),
        (["--daemon=1"], "--daemon takes no argument"),
        (["-n"], "-n needs an argument: N"),
        (["a", "b"], "too many arguments: a b (put the command to run inside after --: -- b)"),
        (["a", "--"], "-- is followed by nothing"),
    ],
)
def test_wrong_command_lines(words: list[str], told: str) -> None:
    with pytest.raises(HakoError) as caught:
        options.read(COMMAND, words)
    assert told in str(caught.value)
    assert caught.value.status == 2


# Users

PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/zsh\nevil:x:99999999999:0:::\nshort:x\nbad:x:a:b:::\n"
GROUP = "root:x:0:\nwheel:x:10:bob,alice\nstaff:x:50:\n:::\n"


@pytest.mark.parametrize(
    ("user", "gid", "groups", "found"),
    [
        (None, None, (), Account(uid=0, gid=0, groups=(), home="/root", shell="/bin/sh")),
        ("alice", None, (), Account(uid=1000, gid=1001, groups=(10,), home="/home/alice", shell="/bin/zsh")),
        (1000, None, (), Account(uid=1000, gid=1001, groups=(10,), home="/home/alice", shell="/bin/zsh")),
        (4242, None, (), Account(uid=4242, gid=4242, groups=(), home="/", shell="")),
        (
            "alice",
            "staff",
            ("wheel", 7),
            Account(uid=1000, gid=50, groups=(10, 7), home="/home/alice", shell="/bin/zsh"),
        ),
    ],
)
def test_accounts(user: int | str | None, gid: int | str | None, groups: tuple[int | str, ...], found: Account) -> None:
    assert find_account(PASSWD, GROUP, user, gid, groups) == found


@pytest.mark.parametrize(
    ("user", "gid"), [("bob", None), ("evil", None), ("short", None), ("bad", None), (0, "nogroup")]
)
def test_unknown_accounts(user: int | str, gid: str | None) -> None:
    with pytest.raises(UnknownUser):
        find_account(PASSWD, GROUP, user, gid, ())


# Undo


def test_undo_runs_backwards_and_goes_on_after_a_failure() -> None:
    done: list[int] = []

    def fail() -> None:
        raise PermissionError(1, "not allowed")

    def missing() -> None:
        raise FileNotFoundError(2, "gone")

    undo = Undo()
    undo.add("one", lambda: done.append(1))
    undo.add("remove it", fail)
    undo.add("remove that", missing)
    undo.add("two", lambda: done.append(2))
    assert undo.run() == ["cannot remove it: not allowed"]
    assert done == [2, 1]
    assert undo.run() == []


# The kernel's side


def test_capability_names_cover_this_kernel() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    assert len(capabilities.NAMES) > last, "a capability of this kernel has no name here"
    assert capabilities.names(capabilities.mask(["cap_chown", "cap_bpf"])) == ["cap_chown", "cap_bpf"]
    assert {capabilities.normal(name) for name in ("CAP_KILL", "kill", "Cap_Kill")} == {"cap_kill"}


def test_an_identity_is_not_that_of_another_process() -> None:
    own = identify(os.getpid())
    assert own.lives()
    assert not own.replace(started=own.started + 1).lives()
    assert not own.replace(boot="another").lives()
    assert not own.replace(pid=0).lives()
    child = subprocess.Popen(["sleep", "60"])
    theirs = identify(child.pid)
    assert theirs.lives()
    child.kill()
    child.wait()
    assert not theirs.lives()


@pytest.mark.parametrize(("text", "number"), [("TERM", 15), ("sigusr1", 10), ("9", 9)])
def test_signal_names(text: str, number: int) -> None:
    assert signals.by_name(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "TREM", "-1"])
def test_unknown_signals(text: str) -> None:
    with pytest.raises(ValueError, match=text or "^$"):
        signals.by_name(text)


def test_a_flood_of_signals_hides_none() -> None:
    """The pipe that wakes takes 65536 bytes: what comes then is known all the same."""
    script = """
import signal
from hakoniwa.kernel.processes import signals
from hakoniwa.kernel.filesystem.files import wait_readable
receiver = signals.listen((signal.SIGUSR1, signal.SIGTERM))
for _ in range(70_000):
    signal.raise_signal(signal.SIGUSR1)
signal.raise_signal(signal.SIGTERM)
assert signals.take(receiver) == [signal.SIGUSR1, signal.SIGTERM]
while wait_readable(receiver, seconds=0):
    assert signals.take(receiver) == []
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_compile_file_does_as_compile() -> None:
    source = b"# -*- coding: latin-1 -*-\nx = '\xe4'\n"
    values: dict[str, object] = {}
    code = compile_file(source, "/some/file.py")
    exec(code, values)
    assert values["x"] == "ä"
    assert code.co_filename == "/some/file.py"
    with pytest.raises(SyntaxError):
        compile_file(b"x = (", "f")


EXECUTE = """
import os, sys
from hakoniwa.kernel.processes import trampoline
reader, writer = os.pipe()
file = trampoline.prepare()
if os.fork() == 0:
    os.dup2(writer, 40)
    os.dup2(file, 41)
    os.dup2(40, 3)
    os.dup2(41, 5, inheritable=False)
    os.execve(5, ["hakoniwa", *sys.argv[1:]], {"A": "b"})
os.close(writer)
result = os.read(reader, 100)
os.wait()
print(int.from_bytes(result, "little", signed=True) if result else "executed")
"""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/bin/sh", "zero", "-c", "echo $0 $A; ls /proc/self/fd | wc -l"], "executed\nzero b\n4\n"),
        (["/no/such", "x"], "-2\n"),
        (["/etc/passwd", "x"], "-13\n"),
    ],
)
def test_the_trampoline_executes_and_tells_why_it_cannot(words: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, "-c", EXECUTE, *words], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == sorted(told.splitlines()), done.stderr


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("kind", [trampoline, idle])
def test_a_program_is_what_its_source_says(kind: ModuleType, machine: str, tmp_path: Path) -> None:
    """Where there is an assembler for the machine type: that of this machine comes with gcc."""
    prefix = "" if machine == os.uname().machine else f"{machine}-linux-gnu-"
    if prefix and shutil.which(f"{prefix}as") is None:
        return
    source = Path(__file__).parent.parent.parent / "tools" / kind.__name__.rpartition(".")[2] / f"{machine}.s"
    made, code = tmp_path / "made", tmp_path / "code"
    subprocess.run([f"{prefix}as", "-o", made, source], check=True)
    subprocess.run([f"{prefix}objcopy", "-O", "binary", "-j", ".text", made, code], check=True)
    assert kind._CODE[machine] == code.read_bytes()


REFUSED = """
import os
import shutil
from hakoniwa.kernel.processes import trampoline
reader, writer = os.pipe()
refuse = bytes.fromhex("3000000000000000")
file = trampoline.prepare(filters=(refuse,), attribute="{attribute}", request="{request}")
if os.fork() == 0:
    for held, number in ((writer, 40), (file, 41), (os.open("/proc", os.O_PATH), 42)):
        os.dup2(held, number)  # out of the way of each other
    os.dup2(42, 6)
    os.dup2(40, 3)
    os.dup2(41, 5, inheritable=False)
    import prctl
    prctl.set_no_new_privs(1)
    os.execve(5, ["hakoniwa", "/bin/true", "true"], {{}})
os.close(writer)
print(int.from_bytes(os.read(reader, 100), "little", signed=True), flush=True)
os.wait()
"""


@pytest.mark.parametrize(
    ("attribute", "request_", "told"),
    [
        ("", "", -22 - 2 * 4096),  # no instruction: the kernel refuses the filter
        ("no/such/file", "exec x", -2 - 4096),
        ("self/attr/exec", "exec x" * 3, -22 - 4096),
    ],
)
def test_the_trampoline_tells_what_it_could_not_put_in_force(attribute: str, request_: str, told: int) -> None:
    code = REFUSED.format(attribute=attribute, request=request_)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if attribute.startswith("self"):  # EINVAL where a security module takes the file, else there is none
        assert -4096 - 100 < int(done.stdout) < -4096
    else:
        assert int(done.stdout) == told


def test_the_trampoline_of_an_unknown_machine() -> None:
    assert trampoline.program("aarch64")[:4] == b"\x7fELF"
    with pytest.raises(HakoError, match="machine type 'pdp11' is not supported"):
        trampoline.program("pdp11")


def test_the_next_time_of_a_cron_expression() -> None:
    import time
    from datetime import datetime

    from hakoniwa.run.hooks.background import _next_cron

    wanted = 60 - datetime.now().second
    assert abs(_next_cron("* * * * *") - time.monotonic() - wanted) <= 1.5


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("/a/*.py", ["/a/b.py"], ["/a/b/c.py", "/a/b.pyc"]),
        ("/a/**/*.py", ["/a/b.py", "/a/b/c/d.py"], ["/b/c.py"]),
        ("/a/?[bc][!d].x", ["/a/zbz.x"], ["/a/zdz.x", "/a/zbd.x"]),
        ("/a/b+(c)", ["/a/b+(c)"], ["/a/bb(c)"]),
    ],
)
def test_patterns_of_watch_hooks(pattern: str, matches: list[str], others: list[str]) -> None:
    import re

    from hakoniwa.run.hooks.watch import translate

    expression = re.compile(translate(pattern))
    assert all(expression.fullmatch(path) for path in matches)
    assert not any(expression.fullmatch(path) for path in others)


def test_timers_neither_drift_nor_make_up_for_what_was_missed() -> None:
    import time

    from hakoniwa.run.hooks.background import Schedule, Worker
    from hakoniwa.spec.records import BackgroundHook

    hook = BackgroundHook(kind="timer", function=print, delay=10.0, interval=10.0, limit=None, signals=(), where="")
    schedule = Schedule((), None, lambda: None, lambda hook: None)  # type: ignore[arg-type]  # no hook sees the base
    worker = Worker(hook, None, lambda worker: None)  # type: ignore[arg-type]
    worker.end()
    now = time.monotonic()
    assert schedule._tick(worker, now - 3) == now - 3 + 10, "counted from when it was due, not from now"
    assert schedule._tick(worker, now - 45) == now - 45 + 50, "four have passed, and are passed over"
    schedule.end()


@pytest.mark.parametrize(
    ("what", "reasons", "runs"),
    [
        ({"kind": "timer"}, [[], [], []], 1),
        ({"kind": "cgroup", "event": "oom"}, [[], [], []], 2),
        ({"kind": "signal", "signals": (10, 12)}, [["USR1"], ["USR2"], ["USR1"]], 3),
        ({"kind": "watch", "patterns": ("/*",)}, [["/a"], ["/b"], ["/a", "/c"]], 2),
    ],
)
def test_what_comes_while_a_hook_is_busy(what: dict[str, Any], reasons: list[list[str]], runs: int) -> None:
    """Ticks are counted. Events are kept, each once."""
    import threading

    from hakoniwa.run.hooks.background import Worker
    from hakoniwa.spec.records import BackgroundHook

    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)
    got: list[object] = []

    def busy(base: object, *reason: object) -> None:
        got.extend(reason)
        begun.release()
        go_on.acquire()

    fields = {"delay": 0.0, "interval": 1.0, "limit": None, "signals": (), "where": "", **what}
    worker = Worker(BackgroundHook(function=busy, **fields), None, lambda worker: None)  # type: ignore[arg-type]
    worker.fire(*(["USR1"] if what["kind"] == "signal" else ["/x"] if what["kind"] == "watch" else []))
    assert begun.acquire(timeout=20)
    for some in reasons:
        worker.fire(*some)
    worker.end()  # it does what it was told to, all the same
    go_on.release(100)
    worker._thread.join(20)
    assert begun._value == runs - 1  # as often as it has begun again
    if what["kind"] == "watch":
        assert got == [["/x"], ["/a", "/b", "/c"]]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, ["step: said"]),
        ({"verbose": True}, ["step: said", "debootstrap: I: Retrieving x"]),
        ({"quiet": True}, []),
    ],
)
def test_what_only_tells_that_a_build_goes_on_is_left_out(
    capfd: pytest.CaptureFixture[str], how: dict[str, bool], told: list[str]
) -> None:
    from hakoniwa.rootfs.tools.progress import progress_for

    progress = progress_for("box", **how)
    progress.output("step", "said", noise=False)
    progress.output("debootstrap", "I: Retrieving x", noise=True)
    assert capfd.readouterr().err.splitlines() == told


# An init


def test_an_init_that_needs_libraries_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("/bin/sh", tmp_path / "tini")
    monkeypatch.setattr(program, "DEFAULT_PATH", str(tmp_path))
    step = program.Execute(command=("true",), init="tini", init_where="box.haco.py:3")
    context = Context(supervisor=-1, status=-1, environ={})
    with pytest.raises(HakoError, match="no static tini is installed") as raised:
        step.prepare(context)
    os.close(context.trampoline)
    assert raised.value.where == "box.haco.py:3"
    assert (
        raised.value.hint
        == f'{tmp_path}/tini needs libraries, which the rootfs may lack: config.init = "catatonit" needs none'
    )
