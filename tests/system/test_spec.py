"""`--spec`: containers of a document, from a file or from standard input, by every command that a file serves for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Hako, wait_for_log

Writer = Callable[..., Path]


@pytest.fixture
def spec(places: Path, rootfs: Path) -> Callable[..., Path]:
    """Write a document of one container on that rootfs: `spec(process={"command": ["true"]})`."""

    def write(name: str = "box", **settings: Any) -> Path:
        files = {"rootfs": {"path": str(rootfs)}, "independent": ["procfs", "sysfs", "devtmpfs", "devpts", "shm"]}
        settings["files"] = {**files, **settings.get("files", {})}
        path = places / f"{name}.json"
        path.write_text(json.dumps({"schema": 1, "containers": [{"name": name, **settings}]}))
        return path

    return write


def state_of(hako: Hako, name: str = "box") -> dict[str, Any]:
    (found,) = [one for one in json.loads(hako("ps", "--all", "--json").stdout)["containers"] if one["name"] == name]
    return dict(found)


def test_a_document_is_run(hako: Hako, spec: Writer) -> None:
    path = spec(
        process={"command": ["/bin/sh", "-c", "echo $0 $A; hostname; id -u; exit 3"], "environ": {"A": "b"}, "uid": 5}
    )
    done = hako("start", "--spec", path, status=3)
    assert done.stdout == "/bin/sh b\nbox\n5\n"
    assert hako("start", f"--spec={path}", "--", "echo", "x").stdout == "x\n"
    assert hako("start", path, "--", "echo", "x").stdout == "x\n"
    assert state_of(hako)["file"] == str(path)


def test_standard_input_is_run(hako: Hako, spec: Writer) -> None:
    text = spec(process={"command": ["echo", "from input"]}).read_text()
    assert hako("start", "--spec", "-", input=text).stdout == "from input\n"
    assert state_of(hako)["file"] == ""
    assert " - " in hako("ps", "--all").stdout
    # What is left of it is nobody's: another text, and a file, may have the name.
    assert hako("start", "--spec", "-", "--", "echo", "again", input=text).stdout == "again\n"
    told = hako("start", "--spec", "box.json").stderr
    assert "box: it was started from standard input and belongs to" in told
    refused = hako("start", "--spec", "-", input=text, status=125).stderr
    assert "the name 'box' belongs to" in refused


def test_the_options_of_start_count(hako: Hako, spec: Writer, places: Path) -> None:
    path = spec(process={"command": ["sleep", "1000"]}, container_pid_file=str(places / "pid"))
    dry = hako("start", "--spec", path, "--dry-run").stdout
    assert "box: execute sleep 1000" in dry
    assert "box: execute echo x" in hako("start", "--spec", path, "--dry-run", "--", "echo", "x").stdout
    hako("start", "--spec", path, "-D", "--wait")
    assert (places / "pid").exists()
    assert hako("attach", path, "--", "hostname").stdout == "box\n"
    assert hako("attach", "-n", "box", "--", "hostname").stdout == "box\n"
    assert hako("status", path).stdout.split()[:2] == ["name", "box"]
    assert "is already running" in hako("start", "--spec", path, status=125).stderr
    hako("kill", path, "-T", "0")
    assert state_of(hako)["status"] == "stopped"
    hako("rm", path)
    assert not json.loads(hako("ps", "--all", "--json").stdout)["containers"]


def test_a_document_may_ask_for_the_background(hako: Hako, spec: Writer) -> None:
    path = spec(process={"command": ["sleep", "1000"]})
    path.write_text(json.dumps({**json.loads(path.read_text()), "daemonize": True}))
    assert hako("start", "--spec", path).stdout.startswith("box ")
    hako("kill", "-n", "box", "-T", "0")
    assert hako("start", "--spec", path, "-T", "--", "echo", "x").stdout == "x\n"


def test_a_rootfs_is_built_of_a_document(hako: Hako, places: Path) -> None:
    code = "mkdir -p $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin/; ln -s busybox $ROOTFS/bin/sh; pwd > $ROOTFS/where"
    build = {
        "bootstrap": {"strategy": "shell", "settings": {"code": code}},
        "provision": {"steps": [{"kind": "shell", "text": "echo done > /provisioned"}]},
    }
    document = {"schema": 1, "containers": [{"name": "made", "build": build, "files": {"independent": ["procfs"]}}]}
    path = places / "made.json"
    path.write_text(json.dumps(document))
    words = ("--", "/bin/busybox", "cat", "/where", "/provisioned")
    assert hako("start", "-b", "--spec", path, *words).stdout == f"{places}\ndone\n"
    hako("rm", "--rootfs", path)
    assert not (places / "lib" / "made").exists()
    # Without a file there is no folder to be in but the root.
    assert hako("start", "-b", "--spec", "-", *words, input=path.read_text()).stdout == "/\ndone\n"
    assert hako("create", path).returncode == 0
    hako("rm", "--rootfs", "-n", "made")


def test_several_containers_are_one_barn(hako: Hako, spec: Writer, places: Path) -> None:
    one = json.loads(spec().read_text())["containers"][0]
    pair = [{**one, "name": name, "process": {"command": ["echo", name]}} for name in ("a", "b")]
    path = places / "pair.json"
    path.write_text(json.dumps({"schema": 1, "name": "pair", "containers": pair}))
    assert sorted(line.split()[-1] for line in hako("start", "--spec", path).stdout.splitlines()) == ["a", "b"]
    assert {state_of(hako, name)["barn"] for name in "ab"} == {"pair"}
    assert "file with one container" in hako("start", "--spec", path, "--", "true", status=2).stderr


def test_inspect_prints_what_start_runs(hako: Hako, box: Writer) -> None:
    body = """
config.init_command = ["echo", "hello"]
config.environ["A"] = "b"
@config.add_general_hook("before_fork")
def f(base): print("hook")
"""
    path = box(body)
    told = hako("inspect", "--spec", path)
    assert "left out, as a spec has no functions: the hook 'before_fork'" in told.stderr
    assert hako("start", "--spec", "-", input=told.stdout).stdout == "hello\n"
    # It names the file that it was made from, whose names it may use; and the other way round.
    assert state_of(hako)["file"] == str(path)
    hako("start", path)
    document = path.with_name("copy.json")
    document.write_text(told.stdout)
    assert hako("start", "--spec", document).stdout == "hello\n"
    assert state_of(hako)["file"] == str(document)
    assert hako("start", path).stdout == "hook\nhello\n"
    # What was recorded is the same, though the file is gone.
    path.unlink()
    recorded = hako("inspect", "--spec", "-n", "box")
    assert json.loads(recorded.stdout) == json.loads(told.stdout)
    assert "left out" in recorded.stderr
    assert json.loads(hako("inspect", "--spec", document).stdout) == json.loads(told.stdout)


def test_the_schema_is_printed(hako: Hako) -> None:
    schema = json.loads(hako("inspect", "--schema").stdout)
    assert schema["properties"]["schema"] == {"const": 1}
    assert hako("inspect", "--schema", "--spec", status=2).stderr.startswith(
        "hako: inspect: --schema is about every spec"
    )


def test_names_belong_to_documents_too(hako: Hako, spec: Writer, box: Writer) -> None:
    hako("start", box("config.init_command = ['true']"))
    path = spec(process={"command": ["true"]})
    refused = hako("start", "--spec", path, status=125).stderr
    assert f"hako: {path}: containers[0].name: the name 'box' belongs to" in refused


def test_a_document_is_read_again(hako: Hako, spec: Writer) -> None:
    settings: dict[str, Any] = {"process": {"command": ["sleep", "1000"]}, "reloadable": ["resource"]}
    path = spec(resources={"limits": [{"name": "NOFILE", "soft": 100, "hard": 200}]}, **settings)
    hako("start", "-D", "--spec", path)
    spec(resources={"limits": [{"name": "NOFILE", "soft": 50, "hard": 200}]}, **settings)
    assert "limit NOFILE: 50:200: applied" in hako("reload", path).stdout
    path.write_text("{")
    assert f"{path}:1: not JSON" in hako("reload", path, status=125).stderr
    hako("kill", path, "-T", "0")


def test_standard_input_cannot_be_read_again(hako: Hako, spec: Writer) -> None:
    text = spec(process={"command": ["sleep", "1000"]}).read_text()
    hako("start", "-D", "--spec", "-", input=text)
    told = hako("reload", "-n", "box", status=125).stderr
    assert "container 'box' was started from standard input, and there is no file to read again" in told
    hako("kill", "-n", "box", "-T", "0")
    told = hako("start", "-D", "--watch", "--spec", "-", input=text, status=2).stderr
    assert "--watch is about a file, and the spec has none" in told


def test_gc_clears_what_is_left_of_a_document(hako: Hako, spec: Writer) -> None:
    path = spec(process={"command": ["sleep", "1000"]})
    hako("start", "-D", "--spec", "-", input=path.read_text())
    os.kill(state_of(hako)["supervisor_pid"], signal.SIGKILL)
    hako("gc")
    assert state_of(hako)["status"] == "dead"
    hako("start", "--spec", path, "--", "true")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--spec",), "start: --spec needs an argument: SPEC"),
        (("--spec", "-", "box.haco.py"), "start: --spec - and box.haco.py are two descriptions"),
        (("--spec", "a.json", "--spec", "b.json"), "start: --spec was given twice: a.json and b.json"),
        (("--spec", "-", "-D", "-T"), "start: -D and -T exclude each other"),
    ],
)
def test_wrong_uses_are_told(hako: Hako, words: tuple[str, ...], told: str) -> None:
    assert hako("start", *words, status=2).stderr.startswith(f"hako: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "standard input: there is no spec (hako inspect --spec FILE prints one)"),
        ("x", "standard input:1: not JSON: expecting value"),
        ('{"schema": 1}', "standard input: containers: is missing"),
        (
            '{"schema": 1, "containers": [{"name": "x", "flavour": "vm"}]}',
            "standard input: containers[0].flavour: must be",
        ),
        (" " * (5 << 20), "standard input: more than 4194304 bytes are no spec"),
    ],
)
def test_a_wrong_document_makes_nothing(hako: Hako, places: Path, text: str, told: str) -> None:
    assert hako("start", "-b", "--spec", "-", input=text, status=125).stderr.startswith(f"hako: {told}")
    assert not (places / "run").exists()
    assert not (places / "lib").exists()


def test_input_without_an_end_is_given_up(hako: Hako) -> None:
    with open("/dev/zero", "rb") as zero:
        done = subprocess.run([*hako_words(), "start", "--spec", "-"], stdin=zero, capture_output=True, timeout=60)
    assert done.returncode == 125
    assert done.stderr.startswith(b"hako: standard input: more than")


def hako_words() -> list[str]:
    from tests.conftest import HAKO

    return [str(HAKO)]


def test_what_is_not_there_is_told(hako: Hako, places: Path) -> None:
    prints = "hako inspect --spec FILE prints one)"
    told = hako("start", "--spec", "nothing.json", status=125).stderr
    assert f"nothing.json: there is no such file ({prints}" in told
    assert f"/: not a regular file (name a spec: {prints}" in hako("start", "--spec", "/", status=125).stderr
    (places / "folder").mkdir()
    assert "folder: not a regular file" in hako("start", "--spec", "folder", status=125).stderr
    (places / "x.haco.py").write_text("x = 1\n")
    assert "x.haco.py:1: not JSON" in hako("start", "--spec", "x.haco.py", status=125).stderr


def test_check_looks_at_a_document(hako: Hako, spec: Writer) -> None:
    path = spec(files={"mounts": [{"source": "/nowhere/at/all", "target": "/x"}]})
    told = hako("check", path, status=125).stderr
    assert told.startswith(f"hako: {path}: containers[0].files.mounts[0]: ")
    assert "/nowhere/at/all" in told
    assert "well described" in hako("check", spec()).stdout


def test_a_failure_at_the_start_is_told_by_its_path(hako: Hako, spec: Writer) -> None:
    path = spec(process={"workdir": "/nowhere", "command": ["true"]})
    assert f"{path}: containers[0].process.workdir: " in hako("start", "--spec", path, status=125).stderr


def test_hooks_of_the_host_files_are_logged(hako: Hako, spec: Writer) -> None:
    path = spec(process={"command": ["/bin/sh", "-c", "echo up; sleep 1000"]})
    hako("start", "-D", "--spec", path)
    wait_for_log(hako, path, "up")
    hako("kill", path, "-T", "0")


def test_a_rootfs_that_no_file_can_make_yet_is_told_with_a_way_out(hako: Hako) -> None:
    build = {"bootstrap": {"strategy": "host"}}
    told = hako(
        "start",
        "--spec",
        "-",
        input=json.dumps({"schema": 1, "containers": [{"name": "h", "build": build}]}),
        status=125,
    )
    assert told.stderr.endswith("is missing (hako create FILE)\n")


def test_what_a_document_has_started_goes_by_the_file_that_it_was_made_from(
    hako: Hako, box: Writer, places: Path
) -> None:
    path = box('config.init_command = ["sleep", "1000"]')
    (places / "box.json").write_text(hako("inspect", "--spec", path).stdout)
    hako("start", "-D", "--spec", "box.json")
    assert hako("attach", path, "--", "echo", "inside").stdout == "inside\n"
    hako("kill", path)
    assert json.loads(hako("status", path, "--json").stdout)["containers"][0]["status"] == "stopped"
    hako("rm", path)
    hako("status", path, status=125)
