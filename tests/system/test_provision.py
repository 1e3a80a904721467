"""Provisioning: what a step finds inside, which steps are taken, and what becomes of one that fails."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako
from tests.system.test_rootfs import await_line, remains

Writer = Callable[..., Path]

RECIPE = 'config.bootstrap.strategy = "recipe"\nconfig.bootstrap.recipe = "busybox"\np = config.provision\n'
PLAIN = RECIPE + "config.bootstrap.cache = False\n"


def inside(hako: Hako, path: Path, script: str) -> str:
    return hako("start", path, "--", "sh", "-c", script).stdout


def test_a_step_finds_a_system_of_its_own(hako: Hako, write_file: Writer) -> None:
    script = "set; mount; hostname; echo $$; id -u; ls /proc/1/root 2>&1 || true; grep -i -e cap -e nonew -e seccomp: /proc/self/status"
    script += "; touch /sys/x 2>&1 || true; cat /etc/hosts; ls /dev; echo hidden >/tmp/x"
    path = write_file(RECIPE + f"p.run_shell({script!r}, name='look')\nconfig.hostname = 'here'")
    done = hako("create", path, SECRET="seen").stderr
    lines = [line.removeprefix("look: ") for line in done.splitlines() if line.startswith("look: ")]
    assert "here" in lines
    assert "HOME='/root'" in lines
    assert "container='hakoniwa'" in lines
    assert not any("SECRET" in line for line in lines)
    for point in ("/proc", "/sys", "/dev", "/tmp", "/etc/hosts", "/etc/resolv.conf"):
        assert any(f" on {point} " in line for line in lines), point
    assert "NoNewPrivs:\t1".expandtabs() in lines
    assert any(line.startswith("Seccomp:") and line.endswith("2") for line in lines)
    assert "CapEff: 00000000a00405fb".replace(" ", "\t").expandtabs() in lines
    assert any("Read-only file system" in line for line in lines)
    for line in Path("/etc/hosts").read_text().splitlines():
        assert line.expandtabs() in lines
    assert "sda" not in lines
    # Nothing of that is left in the box: neither what was in /tmp, nor the files that the host's were mounted on.
    assert inside(hako, path, "ls -A /tmp /etc") == "/etc:\ngroup\npasswd\n\n/tmp:\n"


def test_each_step_is_taken_once_and_again_when_its_text_changes(hako: Hako, write_file: Writer) -> None:
    body = RECIPE + "p.run_shell('echo {} >> /log', name='one')\np.run_shell('echo two >> /log')\n"
    body += "p.run_shell('echo each >> /log', name='each', always=True)\n"
    path = write_file(body.format("one"))
    hako("create", path)
    assert inside(hako, path, "cat /log").split() == ["one", "two", "each"]
    assert "took 1 step of" in hako("provision", path).stderr
    assert inside(hako, path, "cat /log").split() == ["one", "two", "each", "each"]
    write_file(body.format("other"))
    assert "without what these steps do now: one" in hako("create", path).stderr
    assert "took 2 steps of" in hako("provision", path).stderr
    assert inside(hako, path, "cat /log").split() == ["one", "two", "each", "each", "other", "each"]


def test_run_only(hako: Hako, write_file: Writer) -> None:
    body = RECIPE + "".join(f"p.run_shell('echo {name} >> /log', name={name!r})\n" for name in "abc")
    path = write_file(body)
    hako("create", "-N", path)
    assert "without what these steps do now: a, b, c" in hako("create", path).stderr
    hako("provision", path, "--run-only", "c,a")
    assert inside(hako, path, "cat /log").split() == ["a", "c"]
    hako("provision", path, "--run-only=a")
    assert inside(hako, path, "cat /log").split() == ["a", "c", "a"]
    hako("provision", path)
    assert inside(hako, path, "cat /log").split() == ["a", "c", "a", "b"]
    assert "nothing is left to do" in hako("provision", path).stderr
    told = hako("provision", path, "--run-only", "zzz", status=125).stderr
    assert "provisioning step 'zzz' is unknown (known: a b c)" in told
    assert "names no step" in hako("provision", path, "--run-only", ",", status=2).stderr


def test_provision_without_a_rootfs(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(RECIPE + "p.run_shell('true')")
    told = hako("provision", path, status=125).stderr
    assert f"the rootfs {places}/lib/box is missing (hako create {path})" in told
    assert not (places / "lib").exists()


@pytest.mark.parametrize("kind", [RECIPE, PLAIN])
def test_a_step_that_fails_is_told_and_taken_up_again(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    counted = places / "count"
    body = kind + f"config.bootstrap.postprocess(lambda boot: open({str(counted)!r}, 'a').write('x'))\n"
    body += "config.bootstrap.cache = True\n" if kind == RECIPE else ""
    body += "p.run_shell('echo first >> /log')\n"
    path = write_file(body + "p.run_shell('echo before; false; echo after', name='bad')")
    done = hako("create", path, status=125).stderr
    assert f"{path.name}:" in done
    assert ("goes on at that step, hako gc clears it" in done) is (kind == PLAIN)
    assert "provisioning step 'bad' failed with exit status 1 (before)" in done
    assert "after" not in done.replace("before", "")
    assert not (places / "lib" / "box").exists()
    assert "is missing" in hako("start", path, status=125).stderr
    write_file(body + "p.run_shell('echo second >> /log', name='bad')")
    hako("create", path)
    assert inside(hako, path, "cat /log").split() == ["first", "second"]
    assert counted.read_text() == "x"  # the bootstrap was not done again


def test_a_changed_step_before_the_one_that_failed_begins_anew(hako: Hako, write_file: Writer) -> None:
    path = write_file(PLAIN + "p.run_shell('echo first >> /log', name='a')\np.run_shell('false')")
    hako("create", path, status=125)
    write_file(PLAIN + "p.run_shell('echo changed >> /log', name='a')\np.run_shell('true')")
    hako("create", path)
    assert inside(hako, path, "cat /log").split() == ["changed"]


def test_a_failure_in_a_rootfs_that_is_there_stops_its_start(hako: Hako, write_file: Writer) -> None:
    body = RECIPE + "p.run_shell('{}', name='step')"
    path = write_file(body.format("true"))
    hako("create", "-N", path)
    write_file(body.format("exit 3"))
    assert "'step' failed with exit status 3" in hako("provision", path, status=125).stderr
    for command in ("start", "create"):
        told = hako(command, path, status=125).stderr
        assert f"has stopped at 'step' (hako provision {path} goes on with it)" in told
    assert "has stopped at 'step'" in hako("archive", path, "-d", "x.tar", status=125).stderr
    write_file(body.format("true"))
    hako("provision", path)
    assert inside(hako, path, "echo fine") == "fine\n"


@pytest.mark.parametrize("kind", [RECIPE, PLAIN])
def test_a_provisioning_that_is_killed(hako: Hako, write_file: Writer, places: Path, kind: str) -> None:
    path = write_file(kind + "p.run_shell('touch /half; echo started; while :; do touch /more; done', name='long')")
    build = hako.background("create", path)
    await_line(build, b"long: started")
    build.kill()
    build.communicate(timeout=20)
    assert not (places / "lib" / "box").exists()
    write_file(kind + "p.run_shell('true', name='long')")
    hako("create", path)
    assert "half" not in inside(hako, path, "ls /")
    assert hako("gc").stdout.count("unfinished") <= 1  # the layer of the step that is not in the file any more
    assert [name for name in remains(places) if ".building" in name] == []


def test_provisioning_a_rootfs_in_place_is_killed(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE + "p.run_shell('echo started; sleep 1000', name='long')")
    hako("create", "-N", path)
    run = hako.background("provision", path)
    await_line(run, b"long: started")
    assert "is in use" in hako("start", path, status=125).stderr
    assert "is in use" in hako("provision", path, status=125).stderr
    run.kill()
    run.communicate(timeout=20)
    assert "has stopped at 'long'" in hako("start", path, status=125).stderr


def test_ctrl_c_during_a_step(hako: Hako, write_file: Writer, places: Path) -> None:
    path = write_file(RECIPE + "p.run_shell('echo started; sleep 1000', name='long')")
    build = hako.background("create", path, start_new_session=True)
    await_line(build, b"long: started")
    os.killpg(build.pid, signal.SIGINT)
    _, err = build.communicate(timeout=20)
    assert (build.returncode, err.splitlines()[-1]) == (130, b"hako: interrupted")
    assert not (places / "lib" / "box").exists()
    assert [name for name in remains(places) if ".building" in name] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_command_alone_ends_a_step(hako: Hako, write_file: Writer, number: signal.Signals) -> None:
    path = write_file(RECIPE + "p.run_shell('echo started; sleep 1000', name='long')")
    hako("create", "-N", path)
    run = hako.background("provision", path)
    await_line(run, b"long: started")
    run.send_signal(number)
    _, err = run.communicate(timeout=20)
    assert (run.returncode, err.splitlines()[-1]) == (128 + number, b"hako: interrupted")
    assert "has stopped at 'long'" in hako("start", path, status=125).stderr


def test_what_a_step_leaves_running_ends_with_it(hako: Hako, write_file: Writer) -> None:
    daemon = "(trap '' HUP TERM; while :; do sleep 1000; done) > /dev/null 2>&1 & setsid sleep 1000 & echo up"
    done = hako("create", write_file(RECIPE + f"p.run_shell({daemon!r}, name='daemon')"))
    assert "daemon: up" in done.stderr  # and the look-out for leaks finds no process


def test_set_e_and_another_shell(hako: Hako, write_file: Writer) -> None:
    body = RECIPE + "p.run_shell('false\\necho reached')"
    assert "reached" not in hako("create", write_file(body), status=125).stderr
    body = RECIPE + "p.run_shell('echo shell is $0', sh='/bin/ash', name='named')"
    assert "named: shell is named" in hako("create", write_file(body, "two")).stderr
    body = RECIPE + "p.run_shell('true', sh='/bin/zsh')"
    told = hako("create", write_file(body, "three"), status=125).stderr
    assert "provisioning step 'step 1' failed: there is no program '/bin/zsh' inside" in told


def test_a_step_that_is_killed_by_a_signal(hako: Hako, write_file: Writer) -> None:
    told = hako("create", write_file(RECIPE + "p.run_shell('kill -9 $$')"), status=125).stderr
    assert "'step 1' failed with exit status 137" in told


def test_the_last_lines_are_told_and_control_characters_are_not(hako: Hako, write_file: Writer) -> None:
    script = r"i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; done; printf 'evil \033[2J bell\a\n10%%\r100%%\n'; exit 4"
    told = hako("create", write_file(RECIPE + f"p.run_shell({script!r}, name='x')"), status=125).stderr
    last = told.splitlines()[-1]
    assert "failed with exit status 4 (line 23; line 24; " in last
    assert "\x1b" not in told
    assert "\\x1b[2J" in last
    assert last.endswith("; 100%)")


def test_copy(hako: Hako, write_file: Writer, places: Path) -> None:
    source = places / "files"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "tool").write_text("#!/bin/sh\necho ran\n")
    (source / "deep" / "tool").chmod(0o755)
    (source / "link").symlink_to("deep/tool")
    os.utime(source / "deep" / "tool", (1000, 1000))
    (places / "one").write_text("one")
    (places / "one").chmod(0o600)
    body = RECIPE + "p.run_shell('mkdir -p /srv/there; echo alice:x:77:78::/:/bin/sh >> /etc/passwd', name='user')\n"
    body += "p.copy('one', '/srv/there')\np.copy('one', '/srv/new/name', uid='alice', gid=9, mode=0o4750)\n"
    body += "p.copy('files', '/srv/tree', uid=5, gid=6)\np.copy('one', '/srv/dir/')\np.copy('one', '/tmp/kept')\n"
    path = write_file(body)
    hako("create", path)
    found = inside(
        hako, path, "cd /srv; stat -c '%a %u %g %n' there/one new/name tree tree/deep/tool dir/one; cat tree/link"
    )
    assert found.splitlines()[:5] == [
        "600 0 0 there/one",
        "4750 77 9 new/name",
        "755 5 6 tree",
        "755 5 6 tree/deep/tool",
        "600 0 0 dir/one",
    ]
    assert "echo ran" in found
    found = inside(hako, path, "stat -c %Y /srv/tree/deep/tool; readlink /srv/tree/link; cat /tmp/kept")
    assert found == "1000\ndeep/tool\none"
    assert "nothing is left to do" in hako("provision", path).stderr
    (places / "one").write_text("changed")
    assert "took 4 steps" in hako("provision", path).stderr
    assert inside(hako, path, "cat /srv/there/one") == "changed"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("p.copy('no', '/x')", "cannot copy {places}/no: No such file or directory (is it there?)"),
        (
            "p.copy('box.haco.py', '/x', uid='nobody2')",
            "user 'nobody2' is not in the rootfs's /etc/passwd (give a number)",
        ),
        ("p.copy('box.haco.py', '/bin/sh/x')", "/bin/sh: Not a directory"),
        ("p.run_python(lambda: 1 / 0)", "'step 1' failed with exit status 1 ("),
    ],
)
def test_a_step_that_cannot_be_taken(hako: Hako, write_file: Writer, places: Path, line: str, told: str) -> None:
    assert told.format(places=places) in hako("create", write_file(RECIPE + line), status=125).stderr
    assert not (places / "lib" / "box").exists()


def test_run_python(hako: Hako, write_file: Writer) -> None:
    head = "import os\ndef fill(box):\n    box.log(f'I am in {box.name}')\n    open('/mark', 'w').write(str(os.getuid()))\n"
    head += "    box.run(['/bin/sh', '-c', 'echo $HOME; id -u'])\n    assert 'SECRET' not in os.environ\n"
    head += "def bare(): os.mkdir('/made')\n"
    path = write_file(RECIPE + "p.run_python(fill, name='py')\np.run_python(bare)", head=head)
    told = hako("create", path, SECRET="x").stderr
    assert "py: I am in box\npy: /root\npy: 0\n" in told
    assert inside(hako, path, "cat /mark; ls -d /made") == "0/made\n"


def test_run_python_may_not_load_the_rootfs_s_code(hako: Hako, write_file: Writer) -> None:
    head = "def f():\n    import tabnanny\n"
    told = hako("create", write_file(RECIPE + "p.run_python(f, name='py')", head=head), status=125).stderr
    assert "py: tabnanny is not loaded yet: import it at the top of the file" in told
    assert "box.haco.py:3 in f" in told


def test_skip(hako: Hako, write_file: Writer, places: Path) -> None:
    body = f"config.chroot_to({str(places / 'shared')!r})\n" + RECIPE + "p.run_shell('echo x >> /log', name='log')\n"
    body += "with config.define() as c:\n    c.name = 'one'\nwith config.define() as c:\n    c.name = 'two'\n"
    body += "    c.skip_bootstrap()\n    c.skip_provision()\n"
    path = write_file(body)
    hako("create", path)
    assert (places / "shared" / "log").read_text() == "x\n"  # shared by two: a plain folder
    assert hako("provision", path).stderr == "hako: one: nothing is left to do\n"
    hako("start", "-D", path, "--", "sleep", "1000", status=2)
    told = write_file(RECIPE + "p.run_shell('false')\np.skip = True", "skipped")
    hako("create", told)


def test_no_provision(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE + "p.run_shell('false')")
    hako("start", "-b", "-N", path, "--", "true")


def test_a_rootfs_that_is_in_use_is_not_provisioned(hako: Hako, box: Writer) -> None:
    path = box("config.provision.run_shell('echo x > /mark', name='mark')")
    hako("start", "-D", path, "--", "sleep", "1000")
    assert "is in use (hako kill ends a container that runs on it;" in hako("provision", path, status=125).stderr
    hako("kill", path)
    hako("provision", path)  # a rootfs that was not made here, too
    assert inside(hako, path, "cat /mark") == "x\n"


def test_provisioning_of_a_copy_of_this_system(hako: Hako, write_file: Writer) -> None:
    body = (
        'config.bootstrap.strategy = "host"\nconfig.provision.run_shell("useradd tester; id -un tester", name="user")'
    )
    path = write_file(body)
    assert "user: tester" in hako("create", path).stderr
    assert hako("start", path, "--", "id", "-un", "tester").stdout == "tester\n"
    assert subprocess.run(["id", "tester"], capture_output=True).returncode


def test_quiet(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE + "p.run_shell('echo said')")
    assert hako("create", "-q", path).stderr == ""
    assert hako("provision", "--quiet", path).stderr == ""
    path = write_file(RECIPE + "p.run_shell('echo said; exit 5')", "two")
    (line,) = hako("create", "-q", path, status=125).stderr.splitlines()
    assert line.endswith("failed with exit status 5 (said)")


def on_a_terminal(hako: Hako, path: Path, **environ: str) -> str:
    """What `hako create` shows on one."""
    master, slave = pty.openpty()
    words = [str(HAKO), "create", str(path)]
    child = subprocess.Popen(
        words, cwd=hako.folder, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **environ}
    )
    os.close(slave)
    shown = b""
    try:
        while more := os.read(master, 65536):
            shown += more
    except OSError:
        pass  # EIO: nobody has it open any more
    os.close(master)
    assert child.wait() == 0
    return shown.decode()


def test_progress_is_drawn_on_a_terminal_only(hako: Hako, write_file: Writer) -> None:
    slow = "echo begun; i=0; while [ $i -lt 6 ]; do i=$((i+1)); usleep 100000; echo line $i; done"
    body = RECIPE + f"p.run_shell({slow!r}, name='slow', always=True)"
    environ = {"TERM": "xterm", "COLUMNS": "100"}
    shown = on_a_terminal(hako, write_file(body), **environ)
    assert "slow: line 6" in shown
    assert "provisioning: slow: line" in shown  # in the line at the bottom
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    shown = on_a_terminal(hako, write_file(body, "two"), **environ, NO_COLOR="1")
    assert "\x1b" not in shown
    assert "slow: line 6" in shown


def test_the_way_out_to_the_network_is_passed_on(hako: Hako, write_file: Writer) -> None:
    path = write_file(RECIPE + "p.run_shell('echo $http_proxy $HTTPS_PROXY', name='p')")
    assert "p: a b" in hako("create", path, http_proxy="a", HTTPS_PROXY="b").stderr


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("p.run_shell(3)", "config.provision.run_shell() must be a string, not 3"),
        ("p.run_shell('true', name='a,b')", "without a comma"),
        ("p.run_shell('true', name='')", "must be 1 to 63 printable characters"),
        ("p.run_shell('true', sh='sh')", "config.provision.run_shell(sh=) must be an absolute path, not 'sh'"),
        ("p.run_shell('true', always=1)", "(always=) must be True or False, not 1"),
        ("p.run_shell('x' * 200000)", "a text of at most 131071 bytes; copy() a longer script"),
        ("p.run_shell('a', name='n'); p.run_shell('b', name='n')", "two steps of provisioning have the name 'n'"),
        ("p.run_python('text')", "config.provision.run_python() must get a function, not 'text'"),
        ("p.copy('a', 'b')", "config.provision.copy(dst) must be an absolute path, not 'b'"),
        ("p.copy('a', '/b', mode=-1)", "config.provision.copy(mode=) must be a mode from 0 to 0o7777, not -1"),
        ("p.copy('a', '/b', uid=-1)", "config.provision.copy(uid=) must be a name, or a number"),
        ("p.run_shel('a')", "config.provision.run_shel is unknown (did you mean 'run_shell'?)"),
    ],
)
def test_what_a_file_says_wrong(hako: Hako, write_file: Writer, line: str, told: str) -> None:
    assert told in hako("check", write_file("p = config.provision\n" + line), status=125).stderr


def test_a_step_ends_though_something_of_it_still_has_its_output(hako: Hako, write_file: Writer) -> None:
    hako("create", write_file(RECIPE + "p.run_shell('sleep 1000 & exit 0')"))


def test_the_names_of_steps_may_be_of_several_containers(hako: Hako, write_file: Writer) -> None:
    body = RECIPE
    for name in ("one", "two"):
        body += f"with config.define() as c:\n    c.name = {name!r}\n    c.chroot_to({name!r})\n"
        body += f"    c.provision.run_shell('echo {name} >> /log', name={name!r})\n"
    path = write_file(body)
    hako("create", path)
    hako("provision", path, "--run-only", "one,two")
    for name in ("one", "two"):
        assert (path.parent / name / "upper" / "log").read_text() == f"{name}\n{name}\n"
