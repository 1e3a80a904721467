"""The commands around a running container: attach, kill, ps, status, logs, inspect, rm, gc, new, create."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HAKO, Hako, wait_for_log

Writer = Callable[..., Path]

SLEEP = ("--", "sleep", "1000")
# A payload that ends on TERM, and tells when it is ready to.
POLITE = ("--", "sh", "-c", "trap 'echo ending; exit 5' TERM; echo ready; while :; do sleep 0.1; done")


def known(hako: Hako, *words: str) -> list[dict[str, object]]:
    described = json.loads(hako("ps", "--json", *words).stdout)
    assert described["schema"] == 1
    containers: list[dict[str, object]] = described["containers"]
    return containers


# start -D, ps, status, inspect, rm


def test_a_container_in_the_background(hako: Hako, box: Writer, rootfs: Path) -> None:
    path = box('config.metadata["team"] = "blue"')
    done = hako("start", "-D", path, *SLEEP)
    (found,) = known(hako)
    assert done.stdout == f"box {found['pid']}\n"
    assert found["status"] == "running"
    assert found["metadata"] == {"team": "blue"}
    assert os.readlink(f"/proc/{found['pid']}/root") == "/"
    assert Path(f"/proc/{found['supervisor_pid']}/comm").read_text() == "hako:box\n"
    assert "running" in hako("ps").stdout
    assert "status          running" in hako("status", path).stdout
    assert json.loads(hako("status", "-n", "box", "--json").stdout)["containers"] == [found]
    definition = json.loads(hako("inspect", path).stdout)["containers"][0]
    assert definition["security"]["seccomp"]["profile"] == "default"
    assert definition["files"]["rootfs"]["path"] == str(rootfs)
    assert "cap_chown" in definition["effective_capabilities"]
    hako("kill", path)
    assert known(hako) == []
    (found,) = known(hako, "--all")
    assert (found["status"], found["pid"], found["exit"]) == ("stopped", None, {"code": 137, "signal": 9})
    assert "stopped (signal 9)" in hako("ps", "-a").stdout
    hako("rm", path)
    assert known(hako, "--all") == []
    assert rootfs.exists()
    assert "no container of this file is known" in hako("status", path, status=125).stderr


def test_the_daemon_keeps_nothing_of_the_caller(hako: Hako, box: Writer) -> None:
    path = box()
    done = subprocess.run(
        ["sh", "-c", f"{HAKO} start -D {path} -- sleep 1000 | cat"], cwd=hako.folder, capture_output=True, timeout=20
    )
    assert done.stdout.startswith(b"box ")
    hako("kill", path)


def test_a_second_start_fails_and_does_no_harm(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    (before,) = known(hako)
    for option in ([], ["-D"]):
        told = hako("start", *option, path, *SLEEP, status=125).stderr
        assert f"container 'box' is already running: pid {before['pid']}, since" in told
    assert known(hako) == [before]
    assert "runs (hako kill -n box)" in hako("rm", path, status=125).stderr
    hako("kill", path)


def test_the_commands_work_when_the_file_is_broken_or_gone(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    path.write_text("broken (")
    assert hako("attach", path, "--", "echo", "x").stdout == "x\n"
    path.unlink()
    assert hako("attach", path, "--", "echo", "x").stdout == "x\n"
    assert "running" in hako("status", path).stdout
    hako("kill", path)
    hako("rm", path)


# attach


def test_attach_has_what_the_container_has(hako: Hako, box: Writer) -> None:
    body = (
        'config.namespace.unshare("net")\nconfig.uid = "alice"\nconfig.workdir = "/usr"\nconfig.environ["A"] = "1"\n'
        'config.resource.set_limit("NOFILE", 50)\nconfig.capabilities.allow("net_raw")'
    )
    path = box(body)
    script = "id; pwd; env | sort; ulimit -n; umask; grep -E 'Cap|NoNew|Sig|Seccomp' /proc/self/status"
    started = hako("start", path, "--", "sh", "-c", script).stdout
    hako("start", "-D", path, *SLEEP)
    attached = hako("attach", path, "--", "sh", "-c", script).stdout
    hako("kill", path)
    assert attached == started


def test_attach_joins_exactly_the_containers_namespaces(hako: Hako, box: Writer) -> None:
    path = box('config.namespace.unshare("net", "cgroup")')
    hako("start", "-D", path, *SLEEP)
    (found,) = known(hako)
    kinds = ("mnt", "uts", "ipc", "pid", "net", "cgroup", "user")
    script = "for n in " + " ".join(kinds) + "; do readlink /proc/self/ns/$n; done"
    inside = hako("attach", path, "--", "sh", "-c", script).stdout.split()
    assert inside == [os.readlink(f"/proc/{found['pid']}/ns/{kind}") for kind in kinds]
    hako("kill", path)


@pytest.mark.parametrize(
    ("words", "script", "status", "told"),
    [
        ((), "exit 7", 7, ""),
        ((), "kill -9 $$", 137, ""),
        (("-u", "alice"), "id -u; id -g; id -G", 0, "1000\n1001\n1001 10\n"),
        (("-u", "1000", "-g", "5"), "id -u; id -g", 0, "1000\n5\n"),
        (("-A", "net_raw", "-D", "chown,kill"), "grep CapEff /proc/self/status", 0, None),
    ],
)
def test_attach_options(
    hako: Hako, box: Writer, words: tuple[str, ...], script: str, status: int, told: str | None
) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    done = hako("attach", path, *words, "--", "sh", "-c", script, status=status)
    hako("kill", path)
    if told is not None:
        assert done.stdout == told
        return
    from hakoniwa.kernel.security import capabilities

    names = capabilities.names(int(done.stdout.split()[1], 16))
    assert "cap_net_raw" in names
    assert not {"cap_chown", "cap_kill"} & set(names)


def test_attach_by_name_and_by_pid(hako: Hako, box: Writer) -> None:
    hako("start", "-D", box(), *SLEEP)
    (found,) = known(hako)
    assert hako("attach", "-n", "box", "--", "hostname").stdout == "box\n"
    assert hako("attach", "-t", str(found["pid"]), "--", "hostname").stdout == "box\n"
    assert hako("attach", "-n", "box", input="echo shell").stdout == "shell\n"
    hako("kill", "-t", str(found["pid"]))


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("-n", "nobody", "--", "true"), 125, "no container 'nobody' is known"),
        (("-n", "../x", "--", "true"), 2, "a name must be"),
        (("-t", "1", "--", "true"), 125, "no container has a first process or supervisor 1"),
        (("-t", "x", "--", "true"), 2, "a pid must be a number"),
        (("-n", "box", "-u", "bob", "--", "true"), 125, "user 'bob' is not in the rootfs's /etc/passwd"),
        (("-n", "box", "-A", "nope", "--", "true"), 2, "capability 'nope' is unknown"),
        (("-n", "box", "--", "nope"), 127, "there is no program 'nope' inside"),
        (("-n", "box", "--", "/etc/passwd"), 126, "not executable by this user"),
    ],
)
def test_attach_that_fails(hako: Hako, box: Writer, words: tuple[str, ...], status: int, told: str) -> None:
    hako("start", "-D", box(), *SLEEP)
    assert told in hako("attach", *words, status=status).stderr
    hako("kill", "-n", "box")


def test_attach_to_what_does_not_run(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", path, "--", "true")
    assert (
        "no container runs: box has ended with status 0 (hako start -D "
        in hako("attach", path, "--", "true", status=125).stderr
    )


@pytest.mark.parametrize(
    "body",
    [
        "config.filesystem.use_legacy_chroot = True",
        'config.namespace.share("pid")',
        'config.filesystem.use_legacy_chroot = True\nconfig.namespace.unshare("user")',
        'config.namespace.unshare("user")\nconfig.namespace.share("pid")',
    ],
)
def test_attach_to_the_other_kinds(hako: Hako, box: Writer, body: str) -> None:
    path = box(body, mounts="pid" not in body)
    hako("start", "-D", path, *SLEEP)
    assert (
        hako("attach", path, "--", "sh", "-c", "pwd; ls /bin/busybox; sleep 1000 > /tmp/o 2>&1 &").stdout
        == "/\n/bin/busybox\n"
    )
    hako("kill", path)


# kill


def test_kill_waits_for_a_payload_that_ends_on_term(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *POLITE)
    wait_for_log(hako, path, "ready")
    hako("kill", path)
    assert known(hako, "--all")[0]["exit"] == {"code": 5, "signal": None}
    assert hako("logs", path).stdout == "ready\nending\n"


def test_what_kill_waits_at_is_made_anew_and_removed(hako: Hako, box: Writer, places: Path) -> None:
    path = box()
    fifo = places / "run" / "box" / "over"
    hako("start", "-D", path, *SLEEP)
    assert fifo.is_fifo()
    os.kill(int(str(known(hako)[0]["supervisor_pid"])), signal.SIGKILL)
    while known(hako):
        pass
    assert fifo.is_fifo()
    hako("start", "-D", path, *SLEEP)  # over what the killed one has left
    hako("kill", path)
    assert known(hako, "--all")[0]["status"] == "stopped"
    assert sorted(os.listdir(fifo.parent)) == ["lock", "state.json"]


def test_kill_is_at_once_where_term_would_be_ignored(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *SLEEP)
    hako("kill", "-T", "1000", path)  # would not return if it waited for TERM to work
    assert known(hako, "--all")[0]["exit"] == {"code": 137, "signal": 9}


def test_kill_ends_what_ignores_term_when_time_is_up(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, "--", "sh", "-c", "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done")
    wait_for_log(hako, path, "ready")
    hako("kill", "-T", "0.3", path)
    assert known(hako, "--all")[0]["exit"] == {"code": 137, "signal": 9}
    assert "no" in hako("logs", path).stdout


def test_kill_with_a_signal_only_sends(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, "--", "sh", "-c", "trap 'echo got it' USR1; echo ready; while :; do sleep 0.1; done")
    wait_for_log(hako, path, "ready")
    hako("kill", "-s", "USR1", path)
    wait_for_log(hako, path, "got it")
    assert len(known(hako)) == 1
    hako("kill", "-s", "SIGUSR1", "-T", "0.1", path)  # with -T it waits, and kills
    assert known(hako) == []


def test_kill_addresses_the_supervisor(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *POLITE)
    wait_for_log(hako, path, "ready")
    hako("kill", "--supervisor", path)
    assert known(hako, "--all")[0]["exit"] == {"code": 5, "signal": None}


def test_kill_of_nothing_is_no_failure(hako: Hako, box: Writer) -> None:
    assert "nothing is running" in hako("kill", box()).stderr
    assert "no container 'nobody' is known" in hako("kill", "-n", "nobody", status=125).stderr
    told = hako("kill", "-n", "x", "-s", "TREM", status=2).stderr
    assert "signal 'TREM' is unknown (did you mean 'TERM'?)" in told


def test_kill_never_waits(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", "-D", path, *POLITE)
    wait_for_log(hako, path, "ready")
    supervisor = os.pidfd_open(int(str(known(hako)[0]["supervisor_pid"])))
    hako("kill", "-T", "-1", path)
    import select

    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    assert poll.poll(10_000)
    os.close(supervisor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_front_ends_the_container(hako: Hako, box: Writer, number: signal.Signals) -> None:
    front = hako.background("start", box(), *POLITE)
    assert front.stdout is not None
    assert front.stdout.readline() == b"ready\n"
    front.send_signal(number)
    out, _ = front.communicate(timeout=20)
    assert (out, front.returncode) == (b"ending\n", 5)


# logs


def test_logs_of_stdout_and_stderr_with_what_was_there_before(hako: Hako, box: Writer) -> None:
    path = box()
    for word in ("one", "two"):
        hako("start", "-D", path, "--", "sh", "-c", f"echo {word}; echo {word} >&2")
        hako("logs", "-f", path)
    assert hako("logs", path).stdout == "one\none\ntwo\ntwo\n"
    hako("rm", path)
    assert "no container of this file is known" in hako("logs", path, status=125).stderr


def test_a_log_is_capped_rotated_and_followed_across(hako: Hako, box: Writer, places: Path) -> None:
    script = "i=0; while [ $i -lt 240000 ]; do i=$((i+1)); echo $i ----------------------------------------------------------------; done"
    path = box()
    hako("start", "-D", path, "--", "sh", "-c", f"sleep 0.3; {script}")
    followed = hako("logs", "-f", path).stdout.splitlines()
    assert [int(line.split()[0]) for line in followed] == list(range(1, 240001))
    sizes = [(places / "log" / name).stat().st_size for name in ("box.log", "box.log.1")]
    assert all(0 < size <= 10 << 20 for size in sizes)
    assert hako("logs", path).stdout.splitlines()[-1].startswith("240000 ")
    hako("rm", path)
    assert os.listdir(places / "log") == []


def test_a_log_that_is_deleted_blocks_nobody(hako: Hako, box: Writer, places: Path, rootfs: Path) -> None:
    for name in ("go", "done"):
        os.mkfifo(rootfs / "tmp" / name)
    path = box()
    hako("start", "-D", path, "--", "sh", "-c", "read x < /tmp/go; seq 1 50000; echo two; read x < /tmp/done")
    (places / "log" / "box.log").unlink()
    (rootfs / "tmp" / "go").write_text("go\n")
    (rootfs / "tmp" / "done").write_text("go\n")  # it is read once everything was printed
    hako("logs", "-f", path)
    assert hako("logs", path).stdout.endswith("50000\ntwo\n")


def test_no_log_without_a_daemon(hako: Hako, box: Writer) -> None:
    path = box()
    hako("start", path, "--", "echo", "x")
    assert "there is no log" in hako("logs", path, status=125).stderr


# new, check, create


def test_new_writes_a_file_that_works_as_it_stands(hako: Hako, places: Path) -> None:
    assert hako("new", "dev.haco.py").stdout == "dev.haco.py\n"
    assert "well described" in hako("check").stdout
    assert hako("start", "-b", "--", "hostname").stdout == "dev\n"
    assert "is not overwritten" in hako("new", "dev.haco.py", status=125).stderr
    assert "is there already" in hako("create").stderr
    hako("rm", "--rootfs", "dev.haco.py")
    assert sorted(os.listdir(places / "lib")) == [".boxes", ".containers"]
    assert os.listdir(places / "lib" / ".containers") == []
    assert os.listdir(places / "run") == [".rootfs"]


@pytest.mark.parametrize("strategy", ["shell", "recipe", "python"])
def test_new_with_a_strategy(hako: Hako, strategy: str) -> None:
    hako("new", "--strategy", strategy, "-n", "other", "x.haco.py")
    assert hako("start", "-b", "--", "sh", "-c", "echo $$").stdout == "1\n"
    assert known(hako, "-a")[0]["name"] == "other"
    hako("rm", "--rootfs", "-n", "other")


def test_new_with_a_rootfs(hako: Hako, places: Path) -> None:
    hako("new", "-r", "there", "x.haco.py")
    assert f"config.chroot_to('{places}/there')" in (places / "x.haco.py").read_text()


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("--strategy", "hots", "x.haco.py"), 2, "strategy 'hots' is unknown (did you mean 'host'?)"),
        (("-n", "../x", "x.haco.py"), 2, "a name must be"),
        (("..haco.py",), 2, "choose one with -n NAME"),
        ((), 2, "which file?"),
        (("no/such/x.haco.py",), 125, "No such file or directory"),
    ],
)
def test_new_that_fails(hako: Hako, words: tuple[str, ...], status: int, told: str) -> None:
    assert told in hako("new", *words, status=status).stderr


def test_check_changes_nothing(hako: Hako, box: Writer, places: Path) -> None:
    before = sorted(os.listdir(places))
    hako("check", box())
    assert sorted(os.listdir(places)) == sorted([*before, "box.haco.py"])


def test_one_file_in_the_folder_is_found(hako: Hako, box: Writer) -> None:
    assert "there is no *.haco.py file here" in hako("check", status=2).stderr
    box()
    assert "'box' is well described" in hako("check").stdout
    box(name="another")
    assert "there are 2 *.haco.py files here" in hako("check", status=2).stderr


# The command line


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("strat",), 2, "unknown command 'strat' (did you mean 'start'?)"),
        (("start", "--deamon"), 2, "unknown option --deamon (did you mean '--daemon'?)"),
        (("start", "-D", "-T", "f"), 2, "-D and -T exclude each other"),
        (("start", "-N", "f"), 2, "it needs -b"),
        (("kill", "-T", "soon", "-n", "x"), 2, "-T takes seconds, not 'soon'"),
        (("restore", "f"), 2, "restore: this command is not supported yet"),
        (("ps", "x"), 2, "too many arguments: x"),
    ],
)
def test_wrong_usage(hako: Hako, words: tuple[str, ...], status: int, told: str) -> None:
    assert told in hako(*words, status=status).stderr


def test_help_and_versions(hako: Hako) -> None:
    assert "usage: hako COMMAND" in hako("--help").stdout
    assert "usage: hako COMMAND" in hako(status=2).stdout
    assert "-D, --daemon" in hako("start", "--help").stdout
    assert hako("version").stdout == hako("--version").stdout
    assert json.loads(hako("revisions", "--json").stdout)["python-prctl"] != "not found"


def test_debug_shows_the_traceback(hako: Hako, write_file: Writer) -> None:
    path = write_file("1 / 0")
    assert "Traceback" in hako("check", "--debug", path, status=125).stderr
    assert "Traceback" not in hako("check", path, status=125).stderr


# Files that root would execute


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "status", "hint"),
    [
        (0o644, 0o755, 0, ""),
        (0o646, 0o755, 125, "others can write to this file, which root would execute (chmod go-w "),
        (0o644, 0o757, 125, "others can write to the folder"),
        (0o644, 0o1777, 0, ""),
    ],
)
def test_files_that_others_can_change_are_refused(
    hako: Hako, places: Path, file_mode: int, folder_mode: int, status: int, hint: str
) -> None:
    folder = places / "f"
    folder.mkdir()
    path = folder / "x.haco.py"
    path.write_text("from hakoniwa import Haconiwa\nwith Haconiwa.define() as config: pass\n")
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    assert hint in hako("check", path, status=status).stderr


def test_a_file_of_another_user_in_a_sticky_folder_is_refused(hako: Hako, places: Path) -> None:
    folder = places / "f"
    folder.mkdir()
    folder.chmod(0o1777)
    path = folder / "x.haco.py"
    path.write_text("from hakoniwa import Haconiwa\nwith Haconiwa.define() as config: pass\n")
    os.chown(path, 1000, 1000)
    assert "others can write to the folder" in hako("check", path, status=125).stderr
