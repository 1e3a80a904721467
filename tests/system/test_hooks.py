"""What hooks may do: log, print, use what the file has opened; and in which order they see what."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]

POINTS = ["before_fork", "after_fork", "before_chroot", "after_chroot", "before_start_wait", "teardown_container"]
INNER = ["after_fork", "after_network_initialized", "before_chroot", "after_chroot"]


def at(points: list[str], line: str) -> str:
    """The same hook at each of some points; `p` is the point."""
    registered = f"def f(base, p=p):\n        {line}\n    config.add_general_hook(p)(f)"
    return f"for p in {points!r}:\n    {registered}"


# Texts


@pytest.mark.parametrize("point", INNER)
def test_a_text_of_several_lines_is_logged_line_by_line(hako: Hako, box: Writer, point: str) -> None:
    text = r"one\n\ttwo\r\n\x1b[2Jthree\u202e\U000e0001\n"
    done = hako(
        "start", box(f'@config.add_general_hook("{point}")\ndef f(base): base.log("{text}")'), "--", "echo", "ran"
    )
    assert done.stderr == "hako: box: one\nhako: box: \ttwo\nhako: box: \\x1b[2Jthree\\u202e\\U000e0001\n"
    assert done.stdout == "ran\n"


def test_the_log_function_takes_several_lines_too(hako: Hako, box: Writer) -> None:
    assert hako("check", box(r'Haconiwa.log("a\nb")')).stderr == "hako: a\nhako: b\n"


@pytest.mark.parametrize("point", INNER)
def test_an_exception_with_a_line_end_is_one_line(hako: Hako, box: Writer, point: str) -> None:
    path = box(f'@config.add_general_hook("{point}")\ndef f(base): raise ValueError("a\\nb\\tc")')
    done = hako("start", path, "--", "echo", "ran")
    assert f"{point} hook: ValueError: a\\nb\\tc\n" in done.stderr
    assert done.stdout == "ran\n"


@pytest.mark.parametrize("line", ['"".encode("cp850")', 'open("/bin/sh", encoding="latin-1")', 'b"x".decode("idna")'])
def test_a_codec_that_is_not_loaded_yet_is_named(hako: Hako, box: Writer, line: str) -> None:
    path = box(f'@config.add_general_hook("after_chroot")\ndef f(base): {line}')
    done = hako("start", path, "--", "echo", "ran")
    assert " is not loaded yet: write `import encodings." in done.stderr
    assert done.stdout == "ran\n"
    name = done.stderr.partition("`import ")[2].partition("`")[0]
    loaded = box(f'@config.add_general_hook("after_chroot")\ndef f(base): {line}', head=f"import {name}")
    assert hako("start", loaded, "--", "echo", "ran").stderr == ""


def test_a_wrong_level_is_told_inside(hako: Hako, box: Writer) -> None:
    path = box('@config.add_general_hook("after_chroot")\ndef f(base): base.log("x", level="loud")')
    assert "log level 'loud' is unknown (known: debug" in hako("start", path, "--", "true").stderr


# Prints

PRINTS = (
    "print('file')\n"
    + at([*POINTS, "setup", "teardown"], "print('print', p, end=END if p == 'teardown_container' else '\\n')")
    + "\n@config.add_async_hook()\ndef a(base):\n    print('print async')\n    base.kill('TERM')"
)
PRINTED = sorted(["file", "print async", *(f"print {point}" for point in [*POINTS, "setup", "teardown"])])


@pytest.fixture
def patient(rootfs: Path) -> tuple[str, ...]:
    """A program that ends at a TERM, once its handler is there."""
    (rootfs / "bin" / "patient").write_text("#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 0.01; done\n")
    (rootfs / "bin" / "patient").chmod(0o755)
    return ("--", "/bin/patient")


def test_what_hooks_print_is_neither_lost_nor_doubled(hako: Hako, box: Writer, patient: tuple[str, ...]) -> None:
    done = hako("start", box(PRINTS, head="END = '\\n'"), *patient, status=None)
    assert sorted(done.stdout.splitlines()) == PRINTED
    assert done.stdout.splitlines()[:2] == ["file", "print setup"]


def test_what_hooks_print_in_the_background_is_logged(hako: Hako, box: Writer, patient: tuple[str, ...]) -> None:
    path = box(PRINTS, head="END = '\\n'")
    assert hako("start", "-D", path, *patient).stdout.splitlines()[0] == "file"
    hako("logs", "-f", path)
    hako("kill", path)
    assert sorted(["file", *hako("logs", path).stdout.splitlines()]) == PRINTED


def test_a_print_without_a_line_end_is_written_too(hako: Hako, box: Writer) -> None:
    done = hako("start", box(at(POINTS, "print(p, end=' ')")), "--", "true")
    assert sorted(done.stdout.split()) == sorted(POINTS)


# Open files

OPEN = """
import logging, os
logging.basicConfig(filename=LOG + ".logging", format="%(message)s")
plain = open(LOG + ".plain", "a", buffering=1)
inherited = os.dup2(plain.fileno(), 90)  # inheritable
later = []
def write(p):
    logging.warning(p)
    plain.write(p + "\\n")
    os.write(90, (p + " again\\n").encode())
    if later:
        later[0].write(p + "\\n")
"""


def test_what_the_file_has_open_stays_open_for_its_hooks(hako: Hako, box: Writer, places: Path) -> None:
    log = str(places / "log")
    body = f'@config.add_general_hook("setup")\ndef s(barn): later.append(open({log + ".later"!r}, "a", buffering=1))\n'
    for option in ([], ["-D"]):
        hako(
            "start",
            *option,
            box(body + at([*POINTS, "after_network_initialized"], "write(p)"), head=f"LOG = {log!r}" + OPEN),
            "--",
            "true",
        )
        hako("kill", "-n", "box")
        points = sorted([*POINTS, "after_network_initialized"])
        assert sorted(Path(log + ".logging").read_text().splitlines()) == points
        assert sorted(Path(log + ".later").read_text().splitlines()) == points
        assert sorted(Path(log + ".plain").read_text().splitlines()) == sorted(
            [*points, *(f"{p} again" for p in points)]
        )
        for kind in ("logging", "later", "plain"):
            Path(f"{log}.{kind}").unlink()


def test_what_the_file_has_open_does_not_reach_the_program(hako: Hako, box: Writer, places: Path) -> None:
    head = f"LOG = {str(places / 'log')!r}" + OPEN
    done = hako("start", box(at(INNER, "write(p)"), head=head), "--", "sh", "-c", "echo /proc/self/fd/*")
    assert done.stdout.split() == [f"/proc/self/fd/{number}" for number in (0, 1, 2, 3)][: len(done.stdout.split())]
    assert "90" not in done.stdout


# Order, and what hooks see


@pytest.mark.parametrize("word", ["", 'config.namespace.unshare("net")', 'config.namespace.unshare("user")'])
def test_the_order_of_the_hooks_about_the_network(hako: Hako, box: Writer, word: str) -> None:
    body = f"""
import time
@config.add_general_hook("after_network_created")
def slow(base):
    assert base.pid
    base.log("begins")
    time.sleep(0.3)  # whoever does not wait for it is certainly first
    base.log("ends")
{word}
"""
    done = hako("start", box(body + at(["after_fork", "after_network_initialized"], "base.log(p)")), "--", "true")
    expected = ["begins", "ends", "after_fork", "after_network_initialized"]
    assert done.stderr.splitlines() == [f"hako: box: {said}" for said in expected]


def test_a_refusal_while_the_first_process_waits(hako: Hako, box: Writer) -> None:
    path = box('@config.add_general_hook("after_network_created")\ndef f(base): raise Haconiwa.Abort("no")')
    assert (
        "the after_network_created hook refused the start: no" in hako("start", path, "--", "true", status=125).stderr
    )


ENDS = at(["teardown_container", "after_failure"], "base.log(f'{p} {base.exit_status.code} {base.exit_status.signal}')")


@pytest.mark.parametrize(("words", "code"), [(("/nope",), 127), (("/etc/passwd",), 126), (("sh", "-c", "exit 3"), 3)])
def test_hooks_see_the_exit_status_of_the_command(hako: Hako, box: Writer, words: tuple[str, ...], code: int) -> None:
    told = hako("start", box(ENDS), "--", *words, status=code).stderr.splitlines()
    ends = [line for line in told if "teardown_container" in line or "after_failure" in line]
    assert ends == [f"hako: box: {point} {code} None" for point in ("teardown_container", "after_failure")]


BARN = """
def show(barn, p):
    why = str(barn.system_exception) if barn.system_exception else None
    codes = {name: status.code for name, status in barn.exit_statuses.items()}
    with open(LOG, "a") as file:
        print(repr((p, barn.failed, barn.exit_status and barn.exit_status.code, why, codes)), file=file)
@config.add_general_hook("system_failure")
def failed(barn): show(barn, "system_failure")
@config.add_general_hook("teardown")
def ended(barn): show(barn, "teardown")
"""


def shown(path: Path) -> list[tuple[object, ...]]:
    return [eval(line) for line in path.read_text().splitlines()]


def test_what_the_barn_knows_of_one_container(hako: Hako, box: Writer, places: Path) -> None:
    log = places / "log"
    path = box(BARN, head=f"LOG = {str(log)!r}")
    hako("start", path, "--", "sh", "-c", "exit 4", status=4)
    assert shown(log) == [("teardown", None, 4, None, {"box": 4})]
    log.unlink()
    hako("start", path, "--", "/nope", status=127)
    failure, teardown = shown(log)
    assert failure[:3] == ("system_failure", "box", 127)
    assert "/nope" in str(failure[3])
    assert teardown == ("teardown", None, 127, failure[3], {"box": 127})


def test_a_setup_that_is_refused_is_a_failure_of_the_barn(hako: Hako, box: Writer, places: Path) -> None:
    log = places / "log"
    body = BARN + '@config.add_general_hook("setup")\ndef f(barn): raise Haconiwa.Abort("no")'
    hako("start", box(body, head=f"LOG = {str(log)!r}"), "--", "true", status=125)
    failure, teardown = shown(log)
    assert failure[:3] == ("system_failure", None, 125)
    assert teardown[:3] == ("teardown", None, 125)
    assert "refused the start: no" in str(teardown[3])


PAIR = """
with config.define() as c:
    c.name = "stays"
    c.init_command = ["/bin/sleep", "1000"]
with config.define() as c:
    c.name = "bad"
    c.init_command = ["/nope"]
"""


def test_a_failure_is_told_while_the_others_run(hako: Hako, box: Writer, places: Path) -> None:
    log = places / "log"
    os.mkfifo(places / "told")
    head = f"LOG = {str(log)!r}"
    told = f"open({str(places / 'told')!r}, 'w').close()"
    body = BARN.replace('"system_failure")\n@', f'"system_failure"); {told}\n@') + PAIR
    front = hako.background("start", box(body, head=head))
    (places / "told").read_text()  # waits for the hook
    assert shown(log)[0][:3] == ("system_failure", "bad", 127)
    assert front.poll() is None
    running = json.loads(hako("ps", "--json").stdout)["containers"]
    assert [container["name"] for container in running] == ["stays"]
    front.terminate()
    front.communicate()
    assert shown(log)[1][4] == {"stays": 137, "bad": 127}


# The barn's log


def test_the_log_of_the_barn_is_shown(hako: Hako, box: Writer) -> None:
    body = at(["setup", "teardown"], "base.log('said at ' + p)") + PAIR.replace("/nope", "/bin/true")
    path = box(body, name="multi").rename(hako.folder / "multi.haco.py")
    hako("start", "-D", path)
    assert "hako: multi: said at setup" in hako("logs", path).stdout
    follower = hako.background("logs", "-f", "-n", "multi")
    hako("kill", path)
    output, _ = follower.communicate(timeout=20)
    assert output.decode() == "hako: multi: said at setup\nhako: multi: said at teardown\n"
    assert hako("logs", "-n", "multi").stdout == output.decode()
    assert "no container 'mult' is known" in hako("logs", "-n", "mult", status=125).stderr
    hako("rm", path)
    assert not (hako.folder / "log" / "multi.log").exists()


def test_what_the_file_prints_is_not_printed_by_a_step_again(hako: Hako, box: Writer, rootfs: Path) -> None:
    path = box("print('file')\nconfig.provision.run_python(lambda: print('step'), name='s')")
    done = hako("provision", path)
    assert done.stdout.count("file") + done.stderr.count("file") == 1
