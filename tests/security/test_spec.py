"""Documents as an attack: those of others, those that a container could write to, and those that try what no file may."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Hako

STRANGER = 1234
Writer = Callable[..., Path]


@pytest.fixture
def spec(places: Path, rootfs: Path) -> Writer:
    """Write a document of one container on that rootfs."""

    def write(name: str = "box", origin: str = "", **settings: Any) -> Path:
        files = {"rootfs": {"path": str(rootfs)}, "independent": ["procfs", "devtmpfs"], **settings.pop("files", {})}
        path = places / f"{name}.json"
        value = {"schema": 1, "origin": origin, "containers": [{"name": name, "files": files, **settings}]}
        path.write_text(json.dumps(value))
        path.chmod(0o644)
        return path

    return write


@pytest.mark.parametrize("how", ["mode", "owner", "folder", "link"])
def test_a_document_that_somebody_else_can_write_is_refused(hako: Hako, spec: Writer, places: Path, how: str) -> None:
    path = spec(process={"command": ["echo", "ran"]})
    assert hako("start", "--spec", path).stdout == "ran\n"  # without what follows
    match how:
        case "mode":
            path.chmod(0o666)
        case "owner":
            os.chown(path, STRANGER, STRANGER)
        case "folder":
            shared = places / "shared"
            shared.mkdir()
            path = path.rename(shared / "box.json")
            shared.chmod(0o777)
        case "link":
            shared = places / "shared"
            shared.mkdir()
            shared.chmod(0o1777)
            link = shared / "box.json"
            link.symlink_to(path)
            os.lchown(link, STRANGER, STRANGER)
            path = link
    for words in (("start", "--spec", path), ("start", path), ("check", path), ("inspect", "--spec", path)):
        refused = hako(*words, status=125)
        assert refused.stdout == ""
        assert f"hako: {path}: " in refused.stderr


@pytest.mark.parametrize("above", [False, True], ids=["folder", "above"])
def test_a_document_in_a_shared_folder_is_read_only_inside(
    hako: Hako, spec: Writer, places: Path, above: bool, write_file: Writer
) -> None:
    file = write_file("config.name = 'other'", name="origin")
    shared, at = (places.parent, f"/work/{places.name}") if above else (places, "/work")
    mount = {"source": str(shared), "target": "/work"}
    script = f"""
for f in box.json origin.haco.py; do
    {{ echo evil >> {at}/$f; }} 2>/dev/null && echo wrote $f
    {{ mv {at}/$f {at}/$f.old; }} 2>/dev/null && echo moved $f
    {{ rm -f {at}/$f; }} 2>/dev/null && echo removed $f
done
echo free > {at}/written && echo done
"""
    path = spec(origin=str(file), files={"mounts": [mount]})
    before = path.read_text(), file.read_text()
    assert hako("start", "--spec", path, "--", "sh", "-c", script, status=None).stdout == "done\n"
    assert (path.read_text(), file.read_text()) == before
    # Standard input has nothing to guard but the file that it was made from.
    told = hako("start", "--spec", "-", "--", "sh", "-c", script, input=path.read_text(), status=None)
    assert "origin" not in told.stdout
    assert "wrote box.json" in told.stdout
    # Without the defence all of it is the container's.
    path = spec(origin=str(file), files={"mounts": [{**mount, "unguarded": True}]})
    told = hako("start", "--spec", path, "--", "sh", "-c", script, status=None)
    for word in ("wrote box.json", "moved box.json", "wrote origin.haco.py"):
        assert word in told.stdout


def test_a_document_that_was_replaced_outside_is_not_reloaded(hako: Hako, spec: Writer, places: Path) -> None:
    path = spec(files={"mounts": [{"source": str(places), "target": "/work"}]}, reloadable=["resource"])
    hako("start", "-D", "--spec", path, "--", "sleep", "1000")
    hako("reload", path)
    new = places / "new"
    new.write_text(path.read_text())
    new.rename(path)
    told = hako("reload", path, status=125).stderr
    assert "the file was replaced by another one, which the container can write to" in told
    hako("kill", path, "-T", "0")


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "../../etc/x"},
        {"name": "x/y"},
        {"name": ".hidden"},
        {"resources": {"cgroup": {"name": "../../escaped"}}},
        {"resources": {"cgroup": {"name": "/sys/fs/cgroup", "assign_only": True}}},
        {"resources": {"cgroup": {"v1": [{"name": "memory.x/../../../cgroup.procs", "value": "1"}]}}},
        {"files": {"rootfs": {"path": "/"}}},
        {"files": {"rootfs": {"path": "//"}}},
        {"files": {"rootfs": {"path": "/srv/.."}}},
        {"files": {"rootfs": {"path": "/proc"}}},
        {"files": {"mounts": [{"source": "relative", "target": "/x"}]}},
        {"files": {"rootfs": {"replacement": {"source": "relative", "target": "/"}}}},
        {"files": {"network_etc": "etc"}},
        {"process": {"uid": 4294967295}},
        {"process": {"uid": "root:x"}},
        {"process": {"command": ["a", "b\0c"]}},
        {"namespaces": {"own": []}},
        {
            "namespaces": {
                "own": ["mount", "user"],
                "uid_map": [{"outside": 0, "count": 4294967295}],
                "gid_map": [{"outside": 0}],
            }
        },
        {"security": {"seccomp": {"profile": "unconfined"}}},
        {"security": {"seccomp": {"filters": [{"default": "kill_thread"}]}}},
        {"build": {"bootstrap": {"strategy": "recipe", "settings": {"recipe": "../../bin/sh"}}}},
        {"build": {"bootstrap": {"strategy": "git", "settings": {"git_url": "ext::sh -c true"}}}},
        {"build": {"bootstrap": {"strategy": "git", "settings": {"git_url": "--upload-pack=x"}}}},
        {"build": {"bootstrap": {"strategy": "debootstrap", "settings": {"debian_release": "--foreign"}}}},
        {"build": {"provision": {"steps": [{"kind": "copy", "source": "x", "target": "/y"}]}}},
        {"container_pid_file": "relative"},
    ],
    ids=json.dumps,
)
def test_a_document_cannot_say_what_no_file_can(hako: Hako, places: Path, settings: dict[str, Any]) -> None:
    value = {"schema": 1, "name": "barn", "containers": [{"name": "box", **settings}]}
    told = hako("start", "-b", "--spec", "-", "--", "true", input=json.dumps(value), status=125)
    assert told.stderr.startswith("hako: standard input: containers[0].")
    assert not (places / "run").exists()
    assert not (places / "lib").exists()


def test_what_a_document_says_does_not_reach_the_terminal(hako: Hako) -> None:
    """Names and values are shown in errors: with what a terminal would act on as escapes."""
    value = {"schema": 1, "\x1b[2J": 1, "containers": [{"name": "\x1b]0;x\x07", "\u202e": 1}]}
    told = hako("start", "--spec", "-", input=json.dumps(value), status=125).stderr
    assert told.count("\n") == 3
    assert all(line.isprintable() for line in told.splitlines())


def test_a_document_is_no_program(hako: Hako, places: Path) -> None:
    """What begins as one is read as data, whatever else Python would make of it."""
    path = places / "box.haco.py"
    path.write_text('{"a": open("caught", "w")}\n')
    assert "not JSON" in hako("start", path, status=125).stderr
    assert not (places / "caught").exists()
    (places / "pipe").mkdir()
    os.mkfifo(places / "pipe" / "box.json")
    done = subprocess.run(
        ["timeout", "20", *hako_words(), "start", "--spec", str(places / "pipe" / "box.json")], capture_output=True
    )
    assert done.returncode == 125
    assert b"not a regular file" in done.stderr


def hako_words() -> list[str]:
    from tests.conftest import HAKO

    return [str(HAKO)]
