"""Layers: what is found again, what is shared, snapshots and clones, and what is removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako
from tests.system.test_rootfs import await_line, remains

Writer = Callable[..., Path]

RECIPE = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\np = config.provision\n'
HOST = 'config.bootstrap.strategy = "host"\np = config.provision\n'
PLAIN = RECIPE + "config.bootstrap.cache = False\n"


def inside(hako: Hako, path: Path, script: str) -> str:
    return hako("start", path, "--", "sh", "-c", script).stdout


def cached(hako: Hako) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(hako("cache", "ls", "--json").stdout)["cache"]
    return found


def recipe(places: Path, text: str) -> None:
    """A recipe beside the container file that counts how often it runs."""
    (places / "bootstrap").mkdir(exist_ok=True)
    script = f'#!/bin/sh\necho x >> {places}/count\n"{Path(__file__).parents[2]}/bootstrap/busybox"\n{text}\n'
    (places / "bootstrap" / "mine").write_text(script)
    (places / "bootstrap" / "mine").chmod(0o755)


MINE = RECIPE.replace("busybox", "mine")


def test_the_second_of_the_same_kind_is_not_built(hako: Hako, write_file: Writer, places: Path) -> None:
    recipe(places, "echo v1 > $ROOTFS/version")
    body = MINE + f"p.run_shell('echo step >> /log')\np.copy({str(places / 'data')!r}, '/data')\n"
    (places / "data").write_text("d" * 4_000_000)
    for number in range(4):
        hako("create", write_file(body, f"box{number}"))
    assert (places / "count").read_text() == "x\n"
    assert inside(hako, places / "box3.haco.py", "cat /version /log") == "v1\nstep\n"
    # What one writes the others do not see.
    inside(hako, places / "box1.haco.py", "echo mine > /version; rm /log")
    assert inside(hako, places / "box2.haco.py", "cat /version /log") == "v1\nstep\n"
    # Four of them take the space of one.
    used = subprocess.run(["du", "-sb", places / "lib"], capture_output=True, text=True, check=True)
    assert int(used.stdout.split()[0]) < 2 * 4_000_000 + 3_000_000
    assert [entry["users"] for entry in cached(hako)] == [4, 4, 4]


def test_a_layer_is_told_by_what_it_is_made_from(hako: Hako, write_file: Writer, places: Path) -> None:
    recipe(places, "echo v1 > $ROOTFS/version")
    path = write_file(MINE)
    hako("create", path)
    hako("rm", "--rootfs", path)
    recipe(places, "echo v2 > $ROOTFS/version")
    hako("create", path)
    assert inside(hako, path, "cat /version") == "v2\n"
    hako("create", "--rebuild", "--no-cache", path)
    assert (places / "count").read_text() == "x\n" * 3


def test_a_changed_definition_is_told(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE)
    hako("create", path)
    inside(hako, path, "touch /own")
    write_file(RECIPE + "config.rootfs_owner(uid=5, gid=6)")
    told = hako("create", path).stderr
    assert f"is defined differently since it was created (hako create --rebuild {path})" in told
    hako("create", "--rebuild", path)
    assert inside(hako, path, "stat -c '%u %g' / /bin; ls /own 2>&1 || true").startswith("5 6\n5 6\nls: /own: No such")
    assert "is there already" in hako("create", path).stderr
    assert (
        "there is no strategy to make the rootfs with" in hako("create", "--rebuild", write_file(""), status=125).stderr
    )


def test_rebuild_leaves_what_is_there_when_it_fails(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(PLAIN)
    hako("create", path)
    inside(hako, path, "echo kept > /own")
    write_file(PLAIN + "p.run_shell('exit 3')")
    hako("create", "--rebuild", path, status=125)
    write_file(PLAIN)
    assert inside(hako, path, "cat /own") == "kept\n"
    hako("start", "-D", path, "--", "sleep", "1000")
    assert "is in use" in hako("create", "--rebuild", path, status=125).stderr
    hako("kill", path)


def test_what_is_replaced_is_our_own_and_nothing_is_mounted_on_it(
    hako: Hako, write_file: Writer, places: Path, rootfs: Path
) -> None:
    path = write_file(f"config.chroot_to({str(rootfs)!r})\n" + RECIPE, "theirs")
    assert "was not made by hako create" in hako("create", "--rebuild", path, status=125).stderr
    assert (rootfs / "bin" / "sh").exists()
    precious = places / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    path = write_file(PLAIN)
    hako("create", path)
    hako("snapshot", path, "one")
    point = places / "lib" / "box" / "tmp"
    subprocess.run(["mount", "--bind", precious, point], check=True)
    try:
        for words in (("create", "--rebuild", path), ("rollback", path, "one")):
            assert f"something is mounted on {point} (umount {point})" in hako(*words, status=125).stderr
    finally:
        subprocess.run(["umount", point], check=True)
    assert (precious / "file").exists()
    hako("rollback", path, "one")


def test_two_that_need_the_same_layer_at_once(hako: Hako, write_file: Writer, places: Path) -> None:
    recipe(places, f"echo started; read x < {places}/fifo")
    os.mkfifo(places / "fifo")
    one, two = write_file(MINE, "one"), write_file(MINE, "two")
    first = hako.background("create", one)
    await_line(first, b"recipe mine: started")
    second = hako.background("create", two)
    await_line(second, b"hako: two: waiting for another command that builds the same")
    assert "a rootfs is being built, whose layers would be pruned" in hako("cache", "prune", status=125).stderr
    with open(places / "fifo", "w") as fifo:
        fifo.write("go\n")
    for build in (first, second):
        build.communicate(timeout=20)
        assert build.returncode == 0
    assert (places / "count").read_text() == "x\n"


def test_a_build_that_fails_or_is_killed_leaves_no_layer(hako: Hako, write_file: Writer, places: Path) -> None:
    recipe(places, "exit 7")
    path = write_file(MINE)
    assert "recipe mine failed with exit status 7" in hako("create", path, status=125).stderr
    assert remains(places) == []
    recipe(places, "touch $ROOTFS/half; echo started; while :; do touch $ROOTFS/more; done")
    build = hako.background("create", path)
    await_line(build, b"recipe mine: started")
    build.kill()
    build.communicate(timeout=20)
    assert [name for name in remains(places) if name.endswith("/half")]
    assert "unfinished build" in hako("gc").stdout
    assert remains(places) == []


def test_a_layer_that_is_gone_is_told(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(RECIPE)
    hako("create", path)
    (layer,) = (places / "lib" / ".layers").iterdir()
    shutil.rmtree(layer)
    told = hako("start", path, status=125).stderr
    assert "a layer of the rootfs" in told
    assert f"(hako create --rebuild {path})" in told
    hako("create", "--rebuild", path)
    hako("start", path, "--", "true")


def test_a_missing_folder_to_work_in_costs_nothing(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(RECIPE)
    hako("create", path)
    inside(hako, path, "echo x > /mark")
    shutil.rmtree(places / "lib" / "box" / "work")
    assert inside(hako, path, "cat /mark") == "x\n"
    shutil.rmtree(places / "lib" / "box" / "upper")
    assert "it has no folder 'upper'" in hako("start", path, "--", "true", status=125).stderr


def test_prune(hako: Hako, write_file: Writer, places: Path) -> None:
    one, two = write_file(RECIPE + "p.run_shell('touch /one')", "one"), write_file(RECIPE, "two")
    hako("create", one)
    hako("create", two)
    assert hako("cache", "prune").stdout == ""
    hako("rm", "--rootfs", one)
    assert hako("cache", "prune", "--dry-run").stdout.endswith(" step 1\n")
    assert hako("cache", "prune").stdout.endswith(" step 1\n")
    hako("start", two, "--", "true")
    hako("rm", "--rootfs", two)
    assert " bootstrap  recipe busybox  " in hako("cache", "ls").stdout
    hako("cache", "prune")
    assert remains(places) == [".containers"]
    for words in (("cache",), ("cache", "lss")):
        hako(*words, status=2)


def test_what_calls_for_no_layer(hako: Hako, write_file: Writer, places: Path) -> None:
    hako("create", write_file(PLAIN + "p.run_shell('echo x > /log')"))
    assert (places / "lib" / "box" / "log").read_text() == "x\n"
    assert cached(hako) == []
    body = 'config.bootstrap.strategy = "shell"\nconfig.bootstrap.code = "mkdir $ROOTFS/bin; cp /bin/busybox $ROOTFS/bin/sh"\n'
    hako("create", write_file(body, "two"))
    assert cached(hako) == []
    hako("create", write_file(body + "config.bootstrap.cache = True", "three"))
    assert [entry["kind"] for entry in cached(hako)] == ["bootstrap"]


def test_a_container_has_its_layer_to_itself(hako: Hako, write_file: Writer, places: Path) -> None:
    body = f"config.chroot_to({str(places / 'shared')!r})\n" + RECIPE
    one, two = write_file(body, "one"), write_file(body, "two")
    hako("create", one)
    hako("start", "-D", one, "--", "sleep", "1000")
    assert "is in use by another container" in hako("start", two, "--", "true", status=125).stderr
    for command in (("rm", "--rootfs"), ("provision",), ("snapshot", "-n", "one"), ("archive", "-d", "x.tar")):
        words = [*command, "s"] if command[0] == "snapshot" else [*command, two if command[0] != "rm" else one]
        told = hako(*words, status=125).stderr
        assert "in use" in told or "runs" in told
    hako("kill", one)


@pytest.mark.parametrize("user", ["", "config.namespace.unshare('user')\n"])
def test_a_layer_that_nobody_writes_to_serves_many(hako: Hako, write_file: Writer, places: Path, user: str) -> None:
    shared = (
        f"config.chroot_to({str(places / 'shared')!r})\n" + RECIPE + "p.run_shell('rm /bin/ls; echo step > /step')\n"
    )
    body = shared + user + "config.rootfs.readonly = True"
    one, two, writing = write_file(body, "one"), write_file(body, "two"), write_file(shared, "writing")
    hako("create", one)
    hako("start", writing, "--", "sh", "-c", "echo upper > /upper; rm /bin/cat; mkdir /made")
    hako("start", "-D", one, "--", "sleep", "1000")
    script = "for x in /bin/ls /bin/cat /upper /made /step; do test -e $x && echo $x; done; touch /made/x"
    found = hako("start", two, "--", "sh", "-c", script, status=1)
    assert found.stdout == "/upper\n/made\n/step\n"
    assert "Read-only file system" in found.stderr
    told = hako("start", writing, "--", "true", status=125).stderr
    assert "serves one container at a time" in told
    assert "rootfs.readonly = True" in told
    assert "bootstrap.cache = False" in told
    assert "in use" in hako("provision", two, status=125).stderr
    hako("kill", one)
    hako("start", writing, "--", "true")


def test_in_a_user_namespace(hako: Hako, write_file: Writer, places: Path) -> None:
    body = RECIPE + "p.run_shell('echo step > /step; chown 7:8 /step')\nconfig.namespace.unshare('user')\n"
    path = write_file(body)
    hako("create", path)
    script = "stat -c '%u %g' /step /bin; echo new > /new"
    assert inside(hako, path, script) == "7 8\n0 0\n"
    assert (places / "lib" / "box" / "upper" / "new").stat().st_uid == 0


@pytest.mark.parametrize("inner", ["", "config.namespace.unshare('user')\n"])
def test_many_steps(hako: Hako, write_file: Writer, inner: str) -> None:
    """More than there can be layers: the last ones are taken in the rootfs itself."""
    path = write_file(RECIPE + inner + "for n in range(70):\n    p.run_shell(f'echo {n} >> /log')")
    hako("create", path)
    assert inside(hako, path, "cat /log").split() == [str(number) for number in range(70)]
    hako("rm", "--rootfs", path)
    hako("create", path)
    assert inside(hako, path, "wc -l < /log").strip() == "70"
    assert "lies on 60 layers already" in hako("snapshot", path, "x", status=125).stderr


@pytest.mark.parametrize("kind", [RECIPE, PLAIN, HOST])
def test_snapshot_and_rollback(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    path = write_file(kind)
    hako("create", path)
    inside(hako, path, "echo one > /mark; rm -rf /bin/su; mkdir /d; chmod 4755 /d; ln /mark /hard")
    hako("snapshot", path, "first")
    inside(hako, path, "echo two > /mark; touch /more; rm -r /d")
    hako("snapshot", "second")  # the one container file here
    inside(hako, path, "echo three > /mark")
    found = hako("snapshot", path).stdout.splitlines()
    assert [line.split()[1] for line in found[1:]] == ["first", "second"]
    assert "there is a snapshot 'first'" in hako("snapshot", path, "first", status=125).stderr
    hako("rollback", path, "first")
    script = "cat /mark; ls -d /more /bin/su 2>/dev/null; stat -c %a /d; [ /mark -ef /hard ] && echo linked"
    assert inside(hako, path, script) == "one\n4755\nlinked\n"
    hako("rollback", path, "second")
    assert inside(hako, path, "cat /mark; ls /more; ls -d /d 2>&1 | wc -l") == "two\n/more\n1\n"
    hako("snapshot", "--delete", path, "first")
    assert "there is no snapshot 'first' of" in hako("rollback", path, "first", status=125).stderr
    assert inside(hako, path, "cat /mark") == "two\n"
    kept = json.loads(hako("snapshot", path, "--json").stdout)["snapshots"]
    assert [entry["snapshot"] for entry in kept] == ["second"]
    hako("rm", "--rootfs", path)
    assert [entry for entry in cached(hako) if entry["kind"] == "snapshot"] == []


def test_snapshots_of_what_runs_or_was_not_made_here(hako: Hako, write_file: Writer, box: Writer) -> None:
    path = write_file(RECIPE, "made")
    hako("create", path)
    hako("start", "-D", path, "--", "sleep", "1000")
    assert "is in use" in hako("snapshot", path, "x", status=125).stderr
    hako("kill", path)
    assert "there is no snapshot 'x' of" in hako("rollback", path, "x", status=125).stderr
    assert "it has none" in hako("rollback", path, "x", status=125).stderr
    assert "the name of a snapshot must be" in hako("snapshot", path, "../x", status=2).stderr
    assert "which snapshot?" in hako("snapshot", path, "-d", status=2).stderr
    other = box()
    hako("start", other, "--", "true")
    assert "was not made by hako create" in hako("snapshot", other, "x", status=125).stderr


def test_snapshots_outlive_a_rebuild(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE)
    hako("create", path)
    inside(hako, path, "echo before > /mark")
    hako("snapshot", path, "old")
    hako("create", "--rebuild", path)
    assert inside(hako, path, "ls /mark 2>/dev/null || true") == ""
    hako("rollback", path, "old")
    assert inside(hako, path, "cat /mark") == "before\n"


@pytest.mark.parametrize(("first", "second"), [(RECIPE, PLAIN), (PLAIN, RECIPE)])
def test_a_snapshot_of_another_form(hako: Hako, write_file: Writer, first: str, second: str) -> None:
    """A rebuild has made a plain folder of layers, or the other way round: what was kept comes back whole."""
    path = write_file(first + "p.run_shell('echo step > /step')")
    hako("create", path)
    inside(hako, path, "echo before > /mark")
    hako("snapshot", path, "old")
    write_file(second + "p.run_shell('echo step > /step')")
    hako("create", "--rebuild", path)
    hako("rollback", path, "old")
    assert inside(hako, path, "cat /mark /step") == "before\nstep\n"
    write_file(HOST)
    hako("create", "--rebuild", path)
    assert "is of another kind" in hako("rollback", path, "old", status=125).stderr


@pytest.mark.parametrize("kind", [RECIPE, PLAIN, HOST])
def test_clone(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    source, target = write_file(kind, "source"), write_file(kind, "target")
    hako("create", source)
    inside(hako, source, "echo cloned > /mark")
    hako("clone", source, target)
    inside(hako, source, "echo changed > /mark")
    assert inside(hako, target, "cat /mark; hostname") == "cloned\ntarget\n"
    assert "is there already" in hako("create", target).stderr
    hako("rm", "--rootfs", source)
    hako("cache", "prune")
    assert inside(hako, target, "cat /mark") == "cloned\n"
    assert "is there already" in hako("clone", target, target, status=125).stderr
    hako("rm", "--rootfs", target)
    hako("cache", "prune")
    assert remains(places) == [".containers"]


def test_what_cannot_be_cloned(hako: Hako, write_file: Writer) -> None:
    source, target = write_file(RECIPE, "source"), write_file(HOST, "target")
    assert "no container of this file is known" in hako("clone", source, target, status=125).stderr
    hako("create", source)
    assert "must be of that strategy" in hako("clone", source, target, status=125).stderr
    assert "to which container file?" in hako("clone", source, status=2).stderr


def test_a_mark_belongs_to_one_folder(hako: Hako, write_file: Writer, places: Path) -> None:
    """What somebody puts in the place of a rootfs does not get its layers."""
    path = write_file(RECIPE)
    hako("create", path)
    root = places / "lib" / "box"
    root.rename(places / "lib" / "moved")
    shutil.copytree(places / "lib" / "moved", root)
    assert "there is no program '/bin/sh' inside" in hako("start", path, "--", "/bin/sh", status=127).stderr
    shutil.rmtree(root)
    assert f"what was known of {root}" in hako("gc").stdout


def test_a_rootfs_on_a_file_system_of_its_own(hako: Hako, write_file: Writer, places: Path) -> None:
    """Snapshots and layers work across file systems; a mount point itself cannot be replaced."""
    mounted = places / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        path = write_file(f"config.chroot_to({str(mounted / 'box')!r})\n" + RECIPE)
        hako("create", path)
        inside(hako, path, "echo x > /mark")
        hako("snapshot", path, "one")
        inside(hako, path, "rm /mark")
        hako("rollback", path, "one")
        assert inside(hako, path, "cat /mark") == "x\n"
        hako("rm", "--rootfs", path)
        path = write_file(f"config.chroot_to({str(mounted)!r})\n" + RECIPE, "point")
        told = hako("create", path, status=125).stderr
        assert f"the rootfs {mounted} is a mount point of its own (name a folder below it in chroot_to())" in told
        assert os.listdir(mounted) == []
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert not (places / ".mounted.building").exists()


def test_a_full_disk_while_a_step_is_taken(hako: Hako, write_file: Writer, places: Path) -> None:
    lib = places / "lib"
    lib.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", lib], check=True)
    try:
        path = write_file(RECIPE + "p.run_shell('dd if=/dev/zero of=/big bs=1M count=20', name='big')")
        told = hako("create", path, status=125).stderr
        assert "'big' failed with exit status 1" in told
        assert "No space left" in told
        assert not (lib / "box").exists()
        assert [name for name in remains(places) if ".building" in name] == []
        write_file(RECIPE)
        hako("create", path)
        hako("start", path, "--", "true")
    finally:
        subprocess.run(["umount", lib], check=True)


KILLED = """
import os, sys
sys.path[:0] = {paths!r}
from hakoniwa.rootfs.store import placement
from hakoniwa.rootfs import snapshots
def exchange(one, other, swap=snapshots.exchange):
    if {after}:
        swap(one, other)
    os.kill(os.getpid(), 9)
snapshots.exchange = placement.exchange = exchange
snapshots.{action}({path!r}, {name!r})
"""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("action", "name", "kept"), [("snapshot", "two", ("two",)), ("rollback", "one", ("one", "two"))]
)
def test_a_kill_at_the_worst_moment_loses_nothing(
    hako: Hako, write_file: Writer, places: Path, action: str, name: str, kept: tuple[str, ...], after: bool
) -> None:
    """Just before, and just after, the one call that makes the change."""
    path = write_file(RECIPE)
    hako("create", path)
    inside(hako, path, "echo one > /mark")
    hako("snapshot", path, "one")
    inside(hako, path, "echo two > /mark")
    root = str(places / "lib" / "box")
    paths = [folder for folder in sys.path if folder]
    code = KILLED.format(paths=paths, after=after, action=action, path=root, name=name)
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert inside(hako, path, "cat /mark").strip() == kept[0 if after else -1]
    hako("gc")
    hako(action, path, name)
    assert inside(hako, path, "cat /mark").strip() == kept[0]
    hako("rollback", path, "one")
    assert inside(hako, path, "cat /mark") == "one\n"
    hako("rm", "--rootfs", path)
    hako("cache", "prune")
    assert remains(places) == [".containers"]


def test_where_no_overlay_can_be(hako: Hako, write_file: Writer, places: Path) -> None:
    """On an overlay, as in another container: the same rootfs as a plain folder."""
    for name in ("lib", "lower", "upper", "work"):
        (places / name).mkdir(mode=0o700)
    options = f"lowerdir={places}/lower,upperdir={places}/upper,workdir={places}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", places / "lib"], check=True)
    try:
        os.chmod(places / "lib", 0o700)
        path = write_file(RECIPE + "p.run_shell('echo step > /mark', name='a')\np.run_shell('exit 3', name='b')")
        assert "hako create" in hako("create", path, status=125).stderr
        path = write_file(
            RECIPE + "p.run_shell('echo step > /mark', name='a')\np.run_shell('echo b >> /mark', name='b')"
        )
        assert "going on at step 'b'" in hako("create", path).stderr
        assert (places / "lib" / "box" / "mark").read_text() == "step\nb\n"
        hako("snapshot", path, "one")
        inside(hako, path, "rm /mark")
        hako("rollback", path, "one")
        assert inside(hako, path, "cat /mark") == "step\nb\n"
        hako("rm", "--rootfs", path)
    finally:
        subprocess.run(["umount", places / "lib"], check=True)
