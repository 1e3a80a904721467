"""A container that is given the folder of its own file to write to, and what of that root executes later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Hako

Writer = Callable[..., Path]
USER = '\nconfig.namespace.unshare("user")'
HEAD = "import helper, pack.part"
# Each way to have other content under a name: write, remove, rename, put another in its place, and the folder above.
TRY = """
cd {at} || exit 9
for f in box.haco.py other.haco.py helper.py pack/part.py bootstrap/mine; do
    {{ echo evil >> $f; }} 2>/dev/null && echo wrote $f
    {{ rm -f $f; }} 2>/dev/null && echo removed $f
    {{ mv $f $f.old; }} 2>/dev/null && echo moved $f
    {{ echo evil > new; mv -f new $f; }} 2>/dev/null && echo replaced $f
done
for d in bootstrap pack; do
    {{ touch $d/evil; }} 2>/dev/null && echo added to $d
    {{ mv $d $d.old; }} 2>/dev/null && echo moved $d
done
{{ mv {project} {project}.old; }} 2>/dev/null && echo moved {project}
echo free > written && echo done
"""


@pytest.fixture
def project(places: Path) -> Path:
    """A folder with what a container file may need beside it."""
    (places / "other.haco.py").write_text("# another's file\n")
    (places / "helper.py").write_text("")
    (places / "pack").mkdir()
    (places / "pack" / "__init__.py").write_text("")
    (places / "pack" / "part.py").write_text("")
    (places / "bootstrap").mkdir()
    (places / "bootstrap" / "mine").write_text("#!/bin/sh\n")
    return places


def contents(folder: Path) -> dict[str, str]:
    names = ("box.haco.py", "other.haco.py", "helper.py", "pack/part.py", "bootstrap/mine")
    return {name: (folder / name).read_text() for name in names}


@pytest.mark.parametrize(
    ("idmap", "extra"), [("", ""), (", idmap=True", ""), (", idmap=True", USER)], ids=["plain", "idmap", "user"]
)
@pytest.mark.parametrize("how", ["folder", "above", "link", "nested", "bind"])
def test_what_root_executes_is_read_only_inside(
    hako: Hako, box: Writer, project: Path, how: str, idmap: str, extra: str
) -> None:
    shown = project
    at, above = "/work", f"/work/{project.name}"
    match how:
        case "folder":
            body = f'config.add_mount_point(".", to="/work"{idmap})'
        case "above":
            body, at = f'config.add_mount_point("..", to="/work"{idmap})', above
        case "link":
            (project.parent / f"{project.name}-link").symlink_to(project)
            body = f'config.add_mount_point("../{project.name}-link", to="/work"{idmap})'
        case "nested":
            body = f'config.add_mount_point("..", to="/work"{idmap})\nconfig.add_mount_point(".", to="/work/in"{idmap})'
            (project.parent / "in").mkdir(exist_ok=True)
            at = "/work/in"
        case "bind":
            shown = project.parent / f"{project.name}-bound" / "deep"
            shown.mkdir(parents=True)
            subprocess.run(["mount", "--bind", str(project), str(shown)], check=True)
            body, at = f'config.add_mount_point("{shown.parent}", to="/work"{idmap})', "/work/deep"
    try:
        path = box(body + extra, head=HEAD)
        before = contents(project)
        script = TRY.format(at=at, project=above if how in ("above", "nested") else at)
        assert hako("start", path, "--", "sh", "-c", script, status=None).stdout == "done\n"
        assert contents(project) == before
        assert (project / "written").read_text() == "free\n"
        hako("check", path)
        # Without the defence all of it is the container's.
        path.write_text(path.read_text().replace("add_mount_point(", "add_mount_point(unguarded=True, src="))
        told = hako("start", path, "--", "sh", "-c", script, status=None).stdout
        for word in ("wrote box.haco.py", "wrote helper.py", "added to bootstrap", "moved pack"):
            assert word in told
    finally:
        if how == "bind":
            subprocess.run(["umount", str(shown)], check=True)


def test_a_file_that_is_shared_by_itself(hako: Hako, box: Writer) -> None:
    path = box('config.add_mount_point("box.haco.py", to="/etc/me")')
    assert "Read-only" in hako("start", path, "--", "sh", "-c", "echo evil >> /etc/me", status=None).stderr
    assert "evil" not in path.read_text()


def test_a_rootfs_that_holds_the_file(hako: Hako, box: Writer, rootfs: Path) -> None:
    inside = rootfs / "box.haco.py"
    inside.write_text(box().read_text())
    assert "Read-only" in hako("start", inside, "--", "sh", "-c", "echo evil >> /box.haco.py", status=None).stderr
    assert "evil" not in inside.read_text()


def test_a_recipe_cannot_be_put_where_none_was(hako: Hako, write_file: Writer, places: Path) -> None:
    body = """
config.bootstrap.strategy = "recipe"
config.bootstrap.recipe = "busybox"
config.add_mount_point(".", to="/work")
"""
    path = write_file(body)
    script = "mkdir -p /work/bootstrap; cp /bin/busybox /work/bootstrap/busybox"
    assert "Read-only" in hako("start", "-b", path, "--", "sh", "-c", script, status=None).stderr
    assert os.listdir(places / "bootstrap") == []


def test_a_module_that_is_not_there_yet(hako: Hako, box: Writer) -> None:
    head = "try:\n    import local_settings\nexcept ImportError:\n    pass"
    told = hako("start", box('config.add_mount_point(".", to="/work")', head=head), "--", "true", status=125).stderr
    assert "the file looks for the module 'local_settings', which the container could make beside it" in told
    hako("start", box('config.add_mount_point(".", to="/work", readonly=True)', head=head), "--", "true")


def test_a_hook_imports_nothing_that_the_container_could_write(hako: Hako, box: Writer, places: Path) -> None:
    (places / "late.py").write_text("")
    body = """
config.add_mount_point(".", to="/work")
@config.add_general_hook("teardown_container")
def hook(base):
    import late
"""
    told = hako("start", box(body), "--", "sh", "-c", 'echo \'open("/work/caught", "w")\' > /work/late.py').stderr
    assert "the module late is not loaded yet" in told
    assert "import it at the top of the file" in told


def test_a_link_to_the_file_in_a_shared_folder(hako: Hako, box: Writer, places: Path) -> None:
    path = box('config.add_mount_point("links", to="/work")')
    (places / "links").mkdir()
    (places / "links" / "x.haco.py").symlink_to(path)
    told = hako("start", places / "links" / "x.haco.py", "--", "true", status=125).stderr
    assert "is a symlink to what is executed, and the container could replace it" in told
    hako("start", path, "--", "true")


def test_a_file_that_was_replaced_outside_is_not_reloaded(hako: Hako, box: Writer, places: Path) -> None:
    """The kernel takes a mount off a file that is replaced in another mount namespace."""
    path = box('config.add_mount_point(".", to="/work")\nconfig.support_reload("hooks")')
    hako("start", "-D", path, "--", "sleep", "1000")
    path.write_text(path.read_text() + "    config.metadata['a'] = 1\n")
    hako("reload", path)
    new = places / "new"
    new.write_text(path.read_text())
    new.rename(path)
    hako("attach", path, "--", "sh", "-c", "echo '# evil' >> /work/box.haco.py")
    assert "evil" in path.read_text()  # so it could
    assert (
        "the file was replaced by another one, which the container can write to"
        in hako("reload", path, status=125).stderr
    )
    hako("kill", path)
