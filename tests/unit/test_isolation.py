"""What a file may say about namespaces, ids, seccomp, priorities and groups, and what is made of it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hakoniwa import record, recordreader
from hakoniwa.errors import HakoError, Problems
from hakoniwa.haco.loader import load
from hakoniwa.kernel.processes import idmap
from hakoniwa.kernel.security import callnames as names
from hakoniwa.kernel.security import capabilities
from hakoniwa.known.idmaps import callerids, ids, ranges
from hakoniwa.plan.container import Launch, clone_flags
from hakoniwa.plan.flavours import plan
from hakoniwa.seccomp import compiling, docker, profile, programs
from hakoniwa.spec.held import ArgumentTest, CallFilter, CallRule, Seccomp
from hakoniwa.spec.records import NO_MAPS, Container, Maps

Writer = Callable[..., Path]


def read(path: Path) -> Container:
    (container,) = load(str(path), "check").containers
    return container


def steps(container: Container, maps: Maps = NO_MAPS) -> list[str]:
    return [str(step) for step in plan(container, Launch(command=None, terminals=(), capabilities=0, maps=maps))]


def test_namespaces_of_every_kind(write_file: Writer) -> None:
    container = read(
        write_file("""
config.namespace.unshare("net", "cgroup")
config.namespace.unshare("time", persist_in="kept/time")
config.namespace.enter("ipc", via="/proc/1/ns/ipc")
config.namespace.use_netns("blue")
config.namespace.time_offset(boottime=-3.5)
""")
    )
    assert set(container.namespaces.own) == {"mount", "uts", "pid", "cgroup", "time"}
    assert [(one.name, one.path) for one in container.namespaces.entered] == [
        ("ipc", "/proc/1/ns/ipc"),
        ("net", "/run/netns/blue"),
    ]
    assert [(one.name, os.path.basename(one.path)) for one in container.namespaces.persisted] == [("time", "time")]
    # Made by the first process itself: a cgroup namespace after the groups, a time namespace with its clocks.
    assert set(clone_flags(container)) == {"mount", "uts", "pid"}
    told = steps(container)
    assert told[0] == "set the clocks monotonic +0 s, boottime -3.5 s"
    assert "make the cgroup namespace" in told


def test_several_namespaces_are_kept_in_a_folder(write_file: Writer) -> None:
    container = read(write_file('config.namespace.unshare("net", "uts", persist_in="/srv/ns")'))
    assert [one.path for one in container.namespaces.persisted] == ["/srv/ns/net", "/srv/ns/uts"]


def test_a_mapping_implies_a_user_namespace(write_file: Writer) -> None:
    body = """
n = config.namespace
for set_mapping in (n.set_uid_mapping, n.set_gid_mapping):
    set_mapping(min=0, max=9, offset=5000)
    set_mapping(min=100, max=100, offset=77)
config.mount_independent("devtmpfs", "sysfs")
"""
    container = read(write_file(body))
    assert container.has_user_namespace()
    assert [(one.inside, one.outside, one.count) for one in container.namespaces.uid_map] == [
        (0, 5000, 10),
        (100, 77, 1),
    ]
    told = steps(container, ids.choose_maps(container))
    assert "make a private /dev, with the devices of the host" in told
    assert "bind /sys on /sys, read-only, without what is mounted on it" in told


WRONG = [
    ("set_uid_mapping(min=5, max=4, offset=1)", "max 4 is below min 5"),
    ("set_uid_mapping(min=0, max=4294967294, offset=10)", "go beyond the last one"),
    ("set_uid_mapping(min=-1, max=4, offset=1)", "must be a number from 0"),
    ("set_uid_mapping(min=0, max=4, offset=1)", "set_uid_mapping() stands alone (write set_gid_mapping() too)"),
    ('enter("nett", via="/x")', "namespace 'nett' is unknown (did you mean 'net'?)"),
    ('use_netns("../x")', "must be 1 to 63"),
    ('time_offset(boottime="x")', "must be a number of seconds"),
    ('unshare("net", persist_in="")', "must be a path"),
    ('unshare("net", persist_in="/a"); config.namespace.share("net")', "the net namespace is not the container's own"),
]


@pytest.mark.parametrize(("words", "told"), WRONG)
def test_wrong_namespaces(write_file: Writer, words: str, told: str) -> None:
    with pytest.raises(Problems) as problems:
        read(write_file(f"config.namespace.{words}"))
    assert told in str(problems.value)


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        ([(0, 9, 5000), (5, 20, 9000)], "uids from 5 on are mapped twice inside"),
        ([(0, 9, 5000), (20, 29, 5005)], "uids from 5005 on are mapped twice outside"),
        ([(1, 9, 5000)], "no set_uid_mapping() maps 0"),
        ([(n, n, 5000 + n) for n in range(341)], "341 uid ranges are more than the 340"),
    ],
)
def test_maps_that_the_kernel_would_refuse(write_file: Writer, ranges: list[tuple[int, int, int]], told: str) -> None:
    lines = [f"config.namespace.set_uid_mapping(min={a}, max={b}, offset={c})" for a, b, c in ranges]
    lines.append("config.namespace.set_gid_mapping(min=0, max=9, offset=5000)")
    with pytest.raises(Problems) as problems:
        read(write_file("\n".join(lines)))
    assert told in str(problems.value)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('config.mount_independent("cgroup"); config.namespace.share("cgroup")', "needs a cgroup namespace"),
        ('config.cgroup.name = "a/b"', "must have no '/'"),
        ('config.cgroup.name = "../b"', "without '..'"),
        ("config.cgroup.v2.assign_only = True; config.limit(pids=4)", "is for a v2 group without parameters"),
        (
            'config.cgroup.v2.assign_only = True; config.cgroup.v2["pids.max"] = 4',
            "is for a v2 group without parameters",
        ),
        ("config.resource.nice = 20", "must be a whole number from -20 to 19"),
        ('config.resource.sched = "fifo"', "must be one of other batch idle"),
        ("config.resource.oom_score_adj = 1001", "from -1000 to 1000"),
        ('config.add_mount_point("x", to="/x", fs="tmpfs", idmap=True)', "is for bind mounts"),
        ('config.apparmor = ""', "must be the name of a profile"),
        ("config.seccomp.profile = 3", "must be a string"),
        ('config.seccomp.filter(default="deny")', "must be one of"),
        ('config.seccomp.filter().kill("mkdri")', "system call 'mkdri' is unknown (did you mean 'mkdir'?)"),
        ('config.seccomp.filter().errno("chown", "EPREM")', "must be an errno by name"),
        ('config.seccomp.filter().errno("chown")', "an error last"),
        ("config.seccomp.filter().kill()", "names no system call"),
        ('config.seccomp.filter().kill("mkdir", args={7: ("==", 1)})', "from 0 to 5"),
        ('config.seccomp.filter().kill("mkdir", args={0: ("~", 1)})', "must be like"),
        ('config.seccomp.filter().kill("mkdir", args={0: ("&", 1)})', "after '&' a mask"),
    ],
)
def test_wrong_isolation(write_file: Writer, body: str, told: str) -> None:
    with pytest.raises(Problems) as problems:
        read(write_file(body))
    assert told in str(problems.value)


def test_filters_of_a_file_and_of_its_children(write_file: Writer) -> None:
    body = """
with config.seccomp.filter(default="allow") as rule:
    rule.kill("mkdir", "mkdirat")
    rule.errno("socket", "EACCES", args={0: ("==", 16)})
for name in ("a", "b"):
    with config.define() as c:
        c.name = name
"""
    barn = load(str(write_file(body)), "check")
    for container in barn.containers:
        (found,) = container.security.seccomp.filters
        assert [(rule.action, rule.calls, rule.errno) for rule in found.rules] == [
            ("kill", ("mkdir", "mkdirat"), 0),
            ("errno", ("socket",), errno.EACCES),
        ]
        assert found.rules[1].tests == (ArgumentTest(index=0, operator="==", value=16, mask=None),)


# Seccomp


def evaluate(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What a program of classic BPF returns for a call: a small machine of our own (`man 2 seccomp`, linux/filter.h)."""
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join(value.to_bytes(8, "little") for value in (*arguments, *(0,) * (6 - len(arguments))))
    lines = [program[at : at + 8] for at in range(0, len(program), 8)]
    a, at = 0, 0
    while True:
        code, yes, no, k = (
            int.from_bytes(lines[at][:2], "little"),
            lines[at][2],
            lines[at][3],
            int.from_bytes(lines[at][4:], "little"),
        )
        at += 1
        match code:
            case 0x20:
                a = int.from_bytes(data[k : k + 4], "little")
            case 0x54:
                a &= k
            case 0x05:
                at += k
            case 0x15:
                at += yes if a == k else no
            case 0x25:
                at += yes if a > k else no
            case 0x35:
                at += yes if a >= k else no
            case 0x45:
                at += yes if a & k else no
            case 0x06:
                return k
            case _:
                raise AssertionError(hex(code))


I386 = 0x40000003
X86_64, ALLOWED, KILLED = 0xC000003E, 0x7FFF0000, 0x80000000
NONE = 0
EVERY = (1 << len(capabilities.NAMES)) - 1


def compiled(held: int) -> bytes:
    return compiling.compile_filter(profile.default_profile(held), "x86_64")


def failed(number: int) -> int:
    return 0x00050000 | number


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="this kernel has no x86-64 calls")
def test_the_default_profile_by_capabilities() -> None:
    plain, everything = compiled(NONE), compiled(EVERY)
    for number, arguments, without, with_all in [
        (39, (), ALLOWED, ALLOWED),  # getpid
        (165, (), failed(errno.EPERM), ALLOWED),  # mount
        (435, (), failed(errno.ENOSYS), ALLOWED),  # clone3
        (56, (0x11,), ALLOWED, ALLOWED),  # clone with SIGCHLD
        (56, (0x10000000,), failed(errno.EPERM), ALLOWED),  # with CLONE_NEWUSER
        (56, (0x02000000,), failed(errno.EPERM), ALLOWED),  # with CLONE_NEWCGROUP
        (250, (), failed(errno.EPERM), failed(errno.EPERM)),  # keyctl
        (425, (), failed(errno.EPERM), failed(errno.EPERM)),  # io_uring_setup
        (41, (40,), failed(errno.EAFNOSUPPORT), failed(errno.EAFNOSUPPORT)),  # socket(AF_VSOCK)
        (41, (1 << 32 | 40,), failed(errno.EAFNOSUPPORT), failed(errno.EAFNOSUPPORT)),  # the same: it is an int
        (41, (0xFFFFFFFF << 32 | 38,), failed(errno.EAFNOSUPPORT), failed(errno.EAFNOSUPPORT)),
        (41, (2,), ALLOWED, ALLOWED),  # socket(AF_INET)
        (41, (1 << 32 | 2,), ALLOWED, ALLOWED),
        (41, (39,), ALLOWED, ALLOWED),
        (41, (44,), ALLOWED, ALLOWED),
        (135, (0xFFFFFFFF,), ALLOWED, ALLOWED),  # personality: which?
        (135, (0x0040000,), failed(errno.ENOSYS), failed(errno.ENOSYS)),  # ADDR_NO_RANDOMIZE
        (161, (), failed(errno.EPERM), ALLOWED),  # chroot
        (10_000, (), failed(errno.ENOSYS), failed(errno.ENOSYS)),  # a call that nobody knows yet
    ]:
        assert evaluate(plain, X86_64, number, *arguments) == without, number
        assert evaluate(everything, X86_64, number, *arguments) == with_all, number
    assert [evaluate(plain, I386, 102, call) for call in (1, 2, 3, 8, 20)] == [failed(errno.ENOSYS), *[ALLOWED] * 4]
    assert evaluate(plain, I386, 359, 40) == failed(errno.EAFNOSUPPORT)
    assert evaluate(plain, I386, 359, 2) == ALLOWED
    assert evaluate(plain, I386, 21) == failed(errno.EPERM)  # i386: mount
    assert evaluate(plain, X86_64, 0x40000000 | 39) == failed(errno.ENOSYS)  # x32
    assert evaluate(plain, 0xC00000B7, 40) == failed(errno.ENOSYS)  # an ABI of another machine


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="this kernel has no x86-64 calls")
@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("value", [0, 1, 40, 0x5412, 0xFFFFFFFF])
def test_a_condition_on_an_int_is_about_its_own_bits(operator: str, value: int) -> None:
    test = ArgumentTest(index=1, operator=operator, value=value, mask=None)
    rules = tuple(
        CallRule(action="errno", calls=(call,), errno=1, tests=(test,), where="") for call in ("ioctl", "mmap")
    )
    program = compiling.compile_filter(CallFilter(default="allow", errno=1, rules=rules, where=""), "x86_64")
    compare = {"==": int.__eq__, "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}
    for given in {0, 1, 39, 40, 41, 0x5411, 0x5412, 0x5413, 0xFFFFFFFE, 0xFFFFFFFF}:
        for upper in (0, 1 << 32, 0xFFFFFFFF << 32):
            ioctl, mmap = (evaluate(program, X86_64, number, 3, upper | given) for number in (16, 9))
            assert (ioctl == failed(1)) == compare[operator](given, value), hex(upper | given)
            assert (mmap == failed(1)) == compare[operator](upper | given, value), hex(upper | given)


def test_a_range_as_prefixes() -> None:
    for first, last in ((0, 0), (0, 37), (3, 12), (41, 63), (5, 5)):
        found = [
            number for number in range(80) for value, mask in compiling.prefixes(first, last) if number & mask == value
        ]
        assert found == list(range(first, last + 1))
    assert compiling.prefixes(0, 2**32 - 1) == [(0, 0)]
    assert compiling.prefixes(1, 0) == []


def test_no_call_is_in_two_groups() -> None:
    by_capability = {call for calls in names.BY_CAPABILITY.values() for call in calls}
    assert not set(names.ORDINARY) & by_capability
    assert not set(names.NEVER) & (by_capability | set(names.ORDINARY))
    assert len(names.ORDINARY) == len(set(names.ORDINARY))


DOCKER = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "syscalls": [
        {"names": ["read", "no_such_call_yet"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["acct"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["write"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}},
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "arm64"]}},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="this kernel has no x86-64 calls")
def test_a_profile_in_docker_s_format() -> None:
    found = docker.read_profile(json.dumps(DOCKER).encode(), "p.json", NONE, "x86_64")
    program = compiling.compile_filter(found, "x86_64")
    refused = failed(errno.ENOSYS)
    for number, arguments, told in [
        (0, (), ALLOWED),
        (165, (), refused),
        (101, (), ALLOWED),
        (163, (), refused),
        (1, (), ALLOWED),
        (3, (), refused),
        (56, (0x11,), ALLOWED),
        (56, (0x10000000,), refused),
    ]:
        assert evaluate(program, X86_64, number, *arguments) == told, number
    with_it = docker.read_profile(json.dumps(DOCKER).encode(), "p.json", EVERY, "x86_64")
    assert evaluate(compiling.compile_filter(with_it, "x86_64"), X86_64, 165) == ALLOWED


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("nonsense", "p.json: not JSON"),
        ("[]", "not a seccomp profile: the profile is not a dict"),
        ("{}", "defaultAction is None, not one of"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}]}',
            "syscalls[0].action",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [3], "action": "SCMP_ACT_KILL"}]}',
            "not a list of names",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "x", "action": "SCMP_ACT_KILL",'
            ' "args": [{"index": 9, "op": "SCMP_CMP_EQ"}]}]}',
            "a call has six arguments",
        ),
    ],
)
def test_a_profile_that_is_none(content: str, told: str) -> None:
    with pytest.raises(HakoError) as error:
        docker.read_profile(content.encode(), "p.json", NONE, "x86_64")
    assert told in str(error.value)


def own_filter(default: str, *allowed: str) -> CallFilter:
    rules = (CallRule(action="allow", calls=allowed, errno=0, tests=(), where="f:3"),) if allowed else ()
    return CallFilter(default=default, errno=1, rules=rules, where="f:2")


def test_a_filter_that_lets_nothing_start_is_told(write_file: Writer) -> None:
    wanted = read(write_file()).security.seccomp
    with pytest.raises(HakoError, match="lets no program start"):
        programs.programs_for(wanted.replace(filters=(own_filter("kill", "read"),)), NONE, no_new_privs=True)
    with pytest.raises(HakoError, match="in force before privileges are given up, which needs read"):
        programs.programs_for(wanted.replace(filters=(own_filter("kill", "execveat"),)), NONE, no_new_privs=False)
    twice = (own_filter("kill", "execveat"), own_filter("errno", "execveat"))
    with pytest.raises(HakoError, match="only one filter may forbid the call seccomp"):
        programs.programs_for(wanted.replace(filters=twice), NONE, no_new_privs=True)
    made = programs.programs_for(wanted.replace(filters=twice[:1]), NONE, no_new_privs=True)
    assert len(made) == 2
    assert evaluate(made[1].content, X86_64, 0) == KILLED  # the one that forbids seccomp comes last


def test_a_program_is_made_once_and_only_ours_is_trusted(write_file: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_file().parent / "cache"
    monkeypatch.setenv("HAKONIWA_CACHE_DIR", str(folder))
    wanted = read(write_file()).security.seccomp
    (first,) = programs.programs_for(wanted, NONE, no_new_privs=True)
    assert Path(first.path).read_bytes() == first.content
    Path(first.path).write_bytes(first.content[:-8] + b"\x06\0\0\0\0\0\xff\x7f")
    assert programs.programs_for(wanted, NONE, no_new_privs=True)[0].content != first.content  # it was read
    Path(first.path).chmod(0o666)
    assert programs.programs_for(wanted, NONE, no_new_privs=True)[0].content == first.content  # made anew
    Path(first.path).chmod(0o600)
    Path(first.path).write_bytes(b"cut o")
    assert programs.programs_for(wanted, NONE, no_new_privs=True)[0].content == first.content
    assert programs.kept([first.path]) == (first,)
    assert programs.kept([first.path, "/nowhere"]) is None


def test_filters_survive_being_written_down(write_file: Writer) -> None:
    wanted = read(write_file('config.seccomp.filter().kill("mkdir", args={1: ("&", 7, 2)})')).security.seccomp
    assert recordreader.read(Seccomp, json.loads(json.dumps(record.plain(wanted)))) == wanted


# Ids


def test_ranges_of_subuid(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text("# comment\n\nalice:100000:65536\nbob:1:1\n1000:500000:10\n")
    assert idmap.subordinate_ranges(str(path), "alice", 1000) == [(100000, 65536), (500000, 10)]
    assert idmap.subordinate_ranges(str(tmp_path / "none"), "alice", 1000) == []


@pytest.mark.parametrize(
    "line", ["alice:1", "alice:x:10", "alice:-1:10", "alice:1:10:3", "alice:1:0", "alice:1:99999999999"]
)
def test_a_malformed_line_of_subuid_is_told(tmp_path: Path, line: str) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"bob:1:1\n{line}\n")
    with pytest.raises(HakoError) as error:
        idmap.subordinate_ranges(str(path), "alice", 1000)
    assert error.value.where == f"{path}:2"
    assert idmap.subordinate_ranges(str(path), "carol", 1001) == []  # somebody else's line is not ours to judge


def test_the_usual_maps() -> None:
    granted = {"uid": [(100000, 65536)], "gid": [(200000, 10), (300000, 10)]}
    maps = callerids.usual_maps(granted)
    assert maps.uids == ((0, os.geteuid(), 1), (1, 100000, 65535))
    assert maps.gids == ((0, os.getegid(), 1), (1, 200000, 10), (11, 300000, 10))
    alone = callerids.usual_maps({"uid": [], "gid": []})
    assert alone.uids == ((0, os.geteuid(), 1),)
    assert not alone.helped


def test_a_range_is_kept_until_somebody_else_is_given_it(
    places: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    maps, new = ranges.maps_of("box")
    assert (new, ranges.maps_of("box")) == (True, (maps, False))
    first = maps.uids[0][1]
    assert ranges.maps_of("other")[0] != maps
    monkeypatch.setattr(ranges, "taken_ranges", lambda: [(first + 65535, 1)])
    moved, new = ranges.maps_of("box")
    assert new
    assert abs(moved.uids[0][1] - first) >= 65536
    assert f"box: its ids move from {first} to " in capfd.readouterr().err
    assert ranges.maps_of("box") == (moved, False)
    assert sorted(ranges.free_forgotten()) == ["box", "other"]  # neither has a state or a record


def test_ids_outside_of_a_map() -> None:
    assert idmap.outside_of([(0, 5000, 10), (100, 77, 1)], 9) == 5009
    assert idmap.outside_of([(0, 5000, 10), (100, 77, 1)], 100) == 77
    assert idmap.outside_of([(0, 5000, 10)], 10) is None
