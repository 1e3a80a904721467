"""Specs as documents: there and back, what is wrong in one, and the schema."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hakoniwa.errors import HakoError, Problems
from hakoniwa.haco.loader import load
from hakoniwa.known.statefile import Definition
from hakoniwa.record import Record
from hakoniwa.spec.documents.document import LARGEST, parse
from hakoniwa.spec.documents.plain import from_plain, to_plain
from hakoniwa.spec.documents.recorded import read_recorded
from hakoniwa.spec.documents.schema import schema
from hakoniwa.spec.documents.shapes import Shape, published, shapes_of
from hakoniwa.spec.functions import name_function, without_functions
from hakoniwa.spec.records import Barn, Container, Hook, Hooks, Mount
from hakoniwa.spec.rules import buildchecks
from hakoniwa.spec.rules.fieldchecks import checks_of
from hakoniwa.spec.strategies import SETTINGS
from tests.unit.test_structure import EXAMPLES

EVERYTHING = json.loads(Path(__file__).with_name("everything.json").read_text())
MINIMAL = {"schema": 1, "containers": [{"name": "x"}]}
VALIDATOR = Draft202012Validator(schema())


def records_of(kind: type[Record]) -> dict[str, type[Record]]:
    """All records that one can hold, by their names."""
    found = {kind.__name__: kind}
    for shape in shapes_of(kind).values():
        for part in (shape, shape.each, shape.named):
            if part is not None and part.record is not None and part.record.__name__ not in found:
                found |= records_of(part.record)
    return found


RECORDS = records_of(Barn)


def document(**settings: Any) -> dict[str, Any]:
    """A document of one container."""
    return {"schema": 1, "containers": [{"name": "x", **settings}]}


def problems_of(value: object) -> list[str]:
    with pytest.raises(HakoError) as caught:
        from_plain(value, called="x.json")
    return caught.value.lines()


def seen_in(kind: type[Record], value: dict[str, Any]) -> set[tuple[str, str]]:
    """The fields of records that a document has."""
    found = {(kind.__name__, name) for name in value if name != "schema"}
    for name, shape in published(kind).items():
        items = value.get(name, []) if shape.each is not None else [value.get(name)]
        record = shape.record or (shape.each.record if shape.each is not None else None)
        for item in items:
            found |= seen_in(record, item) if record is not None and item is not None else set()
    return found


# There and back


def test_the_document_of_everything_has_every_field() -> None:
    every = {(name, field) for name, kind in RECORDS.items() for field in published(kind)}
    hidden = {
        ("Hook", "point"),
        *((kind, field) for kind, field in every if kind in ("Hooks", "Hook", "BackgroundHook")),
    }
    assert every - hidden == seen_in(Barn, EVERYTHING)


def test_a_document_comes_back_as_it_was() -> None:
    barn = from_plain(EVERYTHING)
    again = to_plain(barn)
    assert from_plain(again) == barn
    normal = json.loads(json.dumps(EVERYTHING))
    one = normal["containers"][0]
    for path in ("flavour",):
        del one[path]  # as it would be anyway
    assert json.loads(json.dumps(again)) == normal


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_comes_back_as_it_was(path: Path, places: Path) -> None:
    barn = load(str(path), "check")
    plain, _ = without_functions(barn)
    value = json.loads(json.dumps(to_plain(barn)))
    back = from_plain(value)
    assert to_plain(back) == value
    # But for the lines of the file, and what was executed.
    assert without_lines(back) == without_lines(plain.replace(origin=plain.file))
    VALIDATOR.validate(value)


def without_lines(barn: Barn) -> Any:
    def strip(value: Any) -> Any:
        if isinstance(value, Record):
            gone = ("where", "places", "file", "origin", "executed", "missed")
            return {name: strip(getattr(value, name)) for name in value._fields if name not in gone}
        if isinstance(value, tuple | list):
            return [strip(item) for item in value]
        return value

    return strip(barn)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_with_functions_all_of_an_example_comes_back(path: Path, places: Path) -> None:
    barn = load(str(path), "check")
    registered: list[Any] = [*barn.hooks]
    for one in barn.containers:
        registered += [*one.hooks.general, *one.hooks.background, *one.build.provision.steps]
    functions = {one.function.__code__.co_firstlineno: one.function for one in registered if one.function}

    def resolve(named: dict[str, Any]) -> Callable[..., Any]:
        function: Callable[..., Any] = functions[named["line"]]
        assert (named["file"], named["name"]) == (str(path), function.__qualname__)
        return function

    value = json.loads(json.dumps(to_plain(barn, functions=True)))
    assert from_plain(value, functions=resolve) == barn


def test_every_record_has_defaults_for_all_but_what_names_it() -> None:
    needed = {(name, field) for name, kind in RECORDS.items() for field in kind._fields if not hasattr(kind, field)}
    assert needed == {
        ("Barn", "containers"),
        ("Container", "name"),
        ("Hook", "point"),
        ("Hook", "function"),
        ("BackgroundHook", "kind"),
        ("BackgroundHook", "function"),
        ("Stream", "number"),
        ("Stream", "path"),
        ("Entered", "name"),
        ("Entered", "path"),
        ("Persisted", "name"),
        ("Persisted", "path"),
        ("IdRange", "outside"),
        ("Mount", "source"),
        ("Mount", "target"),
        ("Limit", "name"),
        ("Limit", "soft"),
        ("Limit", "hard"),
        ("Parameter", "name"),
        ("Parameter", "value"),
        ("CallRule", "action"),
        ("CallRule", "calls"),
        ("ArgumentTest", "index"),
        ("ArgumentTest", "value"),
        ("ProvisionStep", "kind"),
        ("Published", "first"),
        ("Published", "inside"),
    }


def test_a_name_is_enough(places: Path) -> None:
    barn = from_plain(MINIMAL)
    (container,) = barn.containers
    assert (barn.name, container.name, container.hostname, container.barn) == ("x", "x", "x", "x")
    assert container.files.rootfs.path == str(places / "lib" / "x")
    assert container.namespaces.own == ("mount", "uts", "ipc", "pid")
    assert container == load_file(places, 'config.name = "x"').replace(
        file="", where="containers[0]", places={"name": "containers[0].name"}, **parts_of(container)
    )


def load_file(places: Path, body: str) -> Container:
    path = places / "x.haco.py"
    path.write_text(f"from hakoniwa import Haconiwa\nwith Haconiwa.define() as config:\n    {body}\n")
    (container,) = load(str(path), "check").containers
    return container


def parts_of(container: Container) -> dict[str, Any]:
    """Those that have lines in them."""
    return {name: getattr(container, name) for name in ("files", "resources", "security", "build")}


def test_what_follows_from_settings_is_there() -> None:
    files = {"network_etc": "/srv", "lxcfs_root": "/var/lib/lxcfs", "mounts": [{"source": "/new", "target": "/"}]}
    build = {"bootstrap": {"strategy": "host"}, "provision": {"steps": [{"kind": "shell", "text": "a"}]}}
    (container,) = from_plain(document(files=files, build=build)).containers
    assert container.files.independent == ("procfs",)
    assert [(mount.source, mount.target) for mount in container.files.mounts] == [
        ("/srv/resolv.conf", "/etc/resolv.conf"),
        ("/srv/hosts", "/etc/hosts"),
    ]
    assert container.files.rootfs.layered
    assert container.files.rootfs.replacement is not None
    assert container.files.rootfs.replacement.source == "/new"
    assert container.build.provision.steps[0].label == "step 1"


def test_a_start_can_tell_where_a_setting_is() -> None:
    barn = from_plain(
        document(process={"workdir": "/x"}, files={"mounts": [{"source": "/a", "target": "/b"}]}), called="x.json"
    )
    (container,) = barn.containers
    assert container.place("workdir") == "x.json: containers[0].process.workdir"
    assert container.files.mounts[0].where == "x.json: containers[0].files.mounts[0]"


# The schema


def test_the_schema_is_one_and_takes_every_field() -> None:
    Draft202012Validator.check_schema(schema())
    VALIDATOR.validate(EVERYTHING)
    VALIDATOR.validate(MINIMAL)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"schema": 2, "containers": [{"name": "x"}]},
        document(nme="x"),
        document(process={"uid": 1.5}),
        document(files={"independent": ["porcfs"]}),
        document(files={"mounts": [{"source": "/x"}]}),
        document(security={"seccomp": {"filters": [{"default": "maybe"}]}}),
        document(build={"bootstrap": {"settings": {"debian": "bookworm"}}}),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(value: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(value)
    assert problems_of(value)


# What is wrong


def wrong(path: str, told: str, **settings: Any) -> Any:
    return pytest.param(document(**settings), f"x.json: containers[0].{path}: {told}", id=path)


RULE = {"action": "errno", "calls": ["read"], "errno": 1}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("[]", "x.json: must be an object, not '[]'"),
        ({}, 'x.json: schema: is missing (begin with "schema": 1)'),
        ({"schema": 2}, "x.json: schema: must be 1, not 2 (a later version of hakoniwa has written it)"),
        ({"schema": True}, 'x.json: schema: must be 1, not true (begin with "schema": 1)'),
        ({"schema": 1}, "x.json: containers: is missing"),
        ({"schema": 1, "containers": []}, "x.json: containers: must have a container"),
        ({"schema": 1, "containers": {}}, "x.json: containers: must be a list, not an object"),
        (
            {**MINIMAL, "hooks": []},
            "x.json: hooks: is about functions, which a document cannot say (use a container file)",
        ),
        ({**MINIMAL, "file": "/x"}, "x.json: file: is unknown"),
        ({**MINIMAL, "origin": "x"}, "x.json: origin: must be an absolute path, not 'x'"),
        (
            {"schema": 1, "containers": [{"name": "x"}, {"name": "y"}]},
            "x.json: name: is missing: several containers need a name for all of them",
        ),
        (
            {"schema": 1, "name": "b", "containers": [{"name": "x"}, {"name": "x"}]},
            "x.json: containers[1].name: two containers have the name 'x' (the other is at x.json: containers[0].name)",
        ),
        (
            {"schema": 1, "name": "b", "containers": [{"name": n, "container_pid_file": "/run/p"} for n in "xy"]},
            "x.json: containers[1].container_pid_file: containers 'x' and 'y' have one pid file, /run/p",
        ),
        wrong("name", "must be 1 to 63 of A-Z", name="../x"),
        wrong("name", "must be 1 to 63 of A-Z", name="x" * 64),
        wrong("name", "must be a string, not null", name=None),
        wrong("hostname", "must be 1 to 64", hostname="a b"),
        wrong("flavour", "must be one of container fly, not 'vm'", flavour="vm"),
        wrong("proces", "is unknown (did you mean 'process'?)", proces={}),
        wrong("where", "is unknown", where="x"),
        wrong("process", "must be an object, not a list", process=[]),
        wrong("process.command", "must be a list or null, not '/bin/sh'", process={"command": "/bin/sh"}),
        wrong("process.command", "must be a list that begins with a program", process={"command": []}),
        wrong("process.command[1]", "must be a string, not 3", process={"command": ["a", 3]}),
        wrong("process.init", "must be one of tini catatonit, not 'systemd'", process={"init": "systemd"}),
        wrong("process.workdir", "must be an absolute path, not 'x'", process={"workdir": "x"}),
        wrong("process.environ['a=b']", "must be a string, not null", process={"environ": {"a=b": None}}),
        wrong("process.environ['a=b']", "must be set by a name that", process={"environ": {"a=b": "c"}}),
        wrong("process.uid", "must be a name, or a number", process={"uid": -1}),
        wrong("process.uid", "must be a whole number or a string or null, not true", process={"uid": True}),
        wrong("process.groups[0]", "must be a name, or a number", process={"groups": ["a:b"]}),
        wrong(
            "process.streams[0].number",
            "must be a whole number from 0 to 2",
            process={"streams": [{"number": 3, "path": "/x"}]},
        ),
        wrong("process.streams[0].path", "must be an absolute path", process={"streams": [{"number": 1, "path": "x"}]}),
        wrong(
            "process.streams[1]",
            "two redirections are of stream 1",
            process={"streams": [{"number": 1, "path": "/x"}] * 2},
        ),
        wrong("namespaces.own[0]", "must be one of mount", namespaces={"own": ["mnt"]}),
        wrong("namespaces.own", "must be a list without 'pid' twice", namespaces={"own": ["mount", "pid", "pid"]}),
        wrong("namespaces.own", "the mount namespace cannot be shared", namespaces={"own": ["pid"]}),
        wrong(
            "namespaces.entered[0].path",
            "must be an absolute path",
            namespaces={"entered": [{"name": "net", "path": "x"}]},
        ),
        wrong(
            "namespaces.entered[0]",
            "the pid namespace is the container's own, and entered",
            namespaces={"entered": [{"name": "pid", "path": "/proc/1/ns/pid"}]},
        ),
        wrong(
            "namespaces.persisted[0]",
            'the net namespace is not the container\'s own, and cannot be kept (add "net" to namespaces.own)',
            namespaces={"persisted": [{"name": "net", "path": "/run/x"}]},
        ),
        wrong(
            "namespaces.time_offset",
            "a time offset needs a time namespace",
            namespaces={"time_offset": {"boottime": 3}},
        ),
        wrong("namespaces.own", "ids are mapped in a user namespace", namespaces={"uid_map": [{"outside": 1}]}),
        wrong(
            "namespaces.uid_map[0]",
            "3 ids from 4294967293 on go beyond the last one, 4294967294",
            namespaces={
                "own": ["mount", "user"],
                "uid_map": [{"outside": 4294967293, "count": 3}],
                "gid_map": [{"outside": 1}],
            },
        ),
        wrong(
            "namespaces.uid_map[1]",
            "uids from 1 on are mapped twice outside",
            namespaces={
                "own": ["mount", "user"],
                "uid_map": [{"outside": 1}, {"inside": 3, "outside": 1}],
                "gid_map": [{"outside": 1}],
            },
        ),
        wrong("files.rootfs.path", "the rootfs cannot be /", files={"rootfs": {"path": "/"}}),
        wrong("files.rootfs.path", "must be an absolute path without '.'", files={"rootfs": {"path": "/srv/../etc"}}),
        wrong("files.rootfs.path", "must be an absolute path", files={"rootfs": {"path": "srv"}}),
        wrong("files.rootfs.owner_uid", "an owner of the rootfs needs", files={"rootfs": {"owner_gid": 3}}),
        wrong("files.independent[0]", "must be one of procfs", files={"independent": ["proc"]}),
        wrong(
            "files.independent.procfs",
            "a fresh procfs needs a pid namespace of the container's own",
            files={"independent": ["procfs"]},
            namespaces={"own": ["mount"]},
        ),
        wrong(
            "files.mounts[0].source",
            "the source of a bind mount must be absolute, not 'x'",
            files={"mounts": [{"source": "x", "target": "/b"}]},
        ),
        wrong(
            "files.mounts[0].target",
            "must be an absolute path, not 'x'",
            files={"mounts": [{"source": "/a", "target": "x"}]},
        ),
        wrong(
            "files.mounts[0].target",
            "must be an absolute path without",
            files={"mounts": [{"source": "/a", "target": "/b/../c"}]},
        ),
        wrong(
            "files.mounts[0].options[0]",
            "must be an option other than ro, rw, bind and rbind, not 'rw'",
            files={"mounts": [{"source": "/a", "target": "/b", "options": ["rw"]}]},
        ),
        wrong(
            "files.mounts[0]",
            "a bind mount has no option 'size=1'",
            files={"mounts": [{"source": "/a", "target": "/b", "options": ["size=1"]}]},
        ),
        wrong(
            "files.mounts[0].idmap",
            "idmap is for bind mounts",
            files={"mounts": [{"source": "a", "target": "/b", "fs": "tmpfs", "idmap": True}]},
        ),
        wrong(
            "files.mounts[1]",
            "two mount points have the target /b",
            files={"mounts": [{"source": "/a", "target": "/b"}] * 2},
        ),
        wrong("files.masked_paths[0]", "must be an absolute path", files={"masked_paths": ["x"]}),
        wrong("files.network_etc", "must be an absolute path", files={"network_etc": "etc"}),
        wrong(
            "resources.limits[0].name",
            "must be one of AS CORE",
            resources={"limits": [{"name": "NOFILES", "soft": 1, "hard": 1}]},
        ),
        wrong(
            "resources.limits[0]",
            "the soft limit 2 of NOFILE is above",
            resources={"limits": [{"name": "NOFILE", "soft": 2, "hard": 1}]},
        ),
        wrong(
            "resources.limits[0].soft",
            "must be a whole number from -1",
            resources={"limits": [{"name": "AS", "soft": -2, "hard": 1}]},
        ),
        wrong("resources.cgroup.name", "must be a name, or a path below", resources={"cgroup": {"name": "../x"}}),
        wrong(
            "resources.cgroup.v1[0].name",
            "must be the name of a parameter",
            resources={"cgroup": {"v1": [{"name": "../cpu.x", "value": "1"}]}},
        ),
        wrong(
            "resources.cgroup.v2[1]",
            "two values are of a.b",
            resources={"cgroup": {"v2": [{"name": "a.b", "value": "1"}] * 2}},
        ),
        wrong("resources.cgroup.memory", "must be a number of bytes from 4096", resources={"cgroup": {"memory": 5}}),
        wrong("resources.cgroup.cpus", "must be a number of processors", resources={"cgroup": {"cpus": 0}}),
        wrong(
            "resources.scheduling.policy",
            "must be one of other batch idle",
            resources={"scheduling": {"policy": "fifo:100"}},
        ),
        wrong(
            "security.capabilities.named[0]",
            "must be a capability, not 'chwn' (did you mean 'cap_chown'?)",
            security={"capabilities": {"named": ["chwn"]}},
        ),
        wrong(
            "security.capabilities",
            "the capability cap_chown is asked for, and dropped",
            security={"capabilities": {"named": ["chown"], "dropped": ["CAP_CHOWN"]}},
        ),
        wrong("security.seccomp.profile", "must be an absolute path", security={"seccomp": {"profile": "x.json"}}),
        wrong(
            "security.seccomp.filters[0].rules[0].calls[0]",
            "must be a system call",
            security={"seccomp": {"filters": [{"rules": [{"action": "kill", "calls": ["reed"]}]}]}},
        ),
        wrong(
            "security.seccomp.filters[0].rules[0].action",
            "must be one of allow",
            security={"seccomp": {"filters": [{"rules": [{"action": "trace", "calls": ["read"]}]}]}},
        ),
        wrong(
            "security.seccomp.filters[0].rules[0].errno",
            "an errno is what",
            security={"seccomp": {"filters": [{"rules": [{"action": "errno", "calls": ["read"]}]}]}},
        ),
        wrong(
            "security.seccomp.filters[0].rules[0].tests[0].index",
            "must be a whole number from 0 to 5",
            security={"seccomp": {"filters": [{"rules": [{**RULE, "tests": [{"index": 6, "value": 1}]}]}]}},
        ),
        wrong(
            "security.seccomp.filters[0].rules[0].tests[0].value",
            "must be a whole number, not 3.5",
            security={"seccomp": {"filters": [{"rules": [{**RULE, "tests": [{"index": 0, "value": 3.5}]}]}]}},
        ),
        wrong("security.apparmor", "must be the name of a profile", security={"apparmor": ""}),
        wrong(
            "build.bootstrap.strategy",
            "must be the name of a strategy, not 'hoost' (did you mean 'host'?)",
            build={"bootstrap": {"strategy": "hoost"}},
        ),
        wrong("build.bootstrap.strategy", "strategy 'shell' needs", build={"bootstrap": {"strategy": "shell"}}),
        wrong(
            "build.bootstrap.settings.code",
            "config.bootstrap.code means nothing to strategy 'host'",
            build={"bootstrap": {"strategy": "host", "settings": {"code": "x"}}},
        ),
        wrong(
            "build.bootstrap.settings.cod",
            "is unknown (did you mean 'code'?)",
            build={"bootstrap": {"strategy": "shell", "settings": {"cod": "x"}}},
        ),
        wrong(
            "build.bootstrap.settings.git_url",
            "the protocol of 'ext::sh' is not allowed",
            build={"bootstrap": {"strategy": "git", "settings": {"git_url": "ext::sh"}}},
        ),
        wrong(
            "build.bootstrap.settings.archive_path",
            "must be an absolute path",
            build={"bootstrap": {"strategy": "tarball", "settings": {"archive_path": "x.tar"}}},
        ),
        wrong(
            "build.bootstrap.settings.archive_path",
            "an archive from the network needs",
            build={"bootstrap": {"strategy": "tarball", "settings": {"archive_path": "https://x"}}},
        ),
        wrong(
            "build.provision.steps[0]",
            "a step of Python needs a function",
            build={"provision": {"steps": [{"kind": "python"}]}},
        ),
        wrong(
            "build.provision.steps[0]",
            "a step that copies needs",
            build={"provision": {"steps": [{"kind": "copy", "source": "/x"}]}},
        ),
        wrong(
            "build.provision.steps[0].function",
            "is about functions",
            build={"provision": {"steps": [{"kind": "python", "function": "f"}]}},
        ),
        wrong(
            "build.provision.steps[1]",
            "two steps of provisioning have the name 'a'",
            build={"provision": {"steps": [{"kind": "shell", "name": "a"}] * 2}},
        ),
        wrong("container_pid_file", "must be an absolute path", container_pid_file="x"),
        wrong("metadata.a", "must be", metadata={"a": 1e400}),
        wrong("log_level", "must be one of debug info warning error, not 'loud'", log_level="loud"),
        wrong("reloadable[0]", "must be one of cgroup", reloadable=["mounts"]),
    ],
)
def test_what_is_wrong_is_told_by_its_path(value: object, line: str) -> None:
    assert [told for told in problems_of(value) if told.startswith(line)], problems_of(value)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    value = document(
        process={"uid": -1, "comand": []}, files={"mounts": [{"target": 3}, {"source": "/a", "target": "b"}]}
    )
    value["containers"].append({"name": "y", "files": {"independent": ["cgroup"]}})
    assert [line.split(": ")[1] for line in problems_of(value)] == [
        "containers[0].process.comand",
        "containers[0].process.uid",
        "containers[0].files.mounts[0].source",
        "containers[0].files.mounts[0].target",
        "containers[0].files.mounts[1].target",
        "containers[1].files.independent.cgroup",
    ]


def test_no_more_is_told_than_can_be_read() -> None:
    lines = problems_of(document(**{f"x{number}": 1 for number in range(1000)}))
    assert len(lines) == 101
    assert lines[-1] == "x.json: and 900 more"


def test_every_field_of_a_document_is_checked_as_a_container_file_is() -> None:
    """A field of words or numbers that no check is for would take what no container file can say."""
    free = {("Bootstrap", "settings"), ("ArgumentTest", "mask")}
    for name, kind in RECORDS.items():
        if name in ("Hook", "BackgroundHook", "Hooks"):
            continue
        for field, shape in published(kind).items():
            if is_free(shape) and (name, field) not in free:
                assert field in checks_of(kind), (name, field)
    assert {name for names in SETTINGS.values() for name in names} <= set(buildchecks.CHECKS)


def is_free(shape: Shape) -> bool:
    """Whether what it takes is no record alone, and neither true nor false."""
    if shape.record is not None or (shape.each is not None and shape.each.record is not None):
        return False
    return (
        not set(shape.scalars) <= {"bool", "None"}
        or shape.anything
        or shape.named is not None
        or shape.each is not None
    )


# Hostile texts


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "x.json:1: not JSON: expecting value"),
        (b"{", "x.json:1: not JSON: expecting property name enclosed in double quotes"),
        (b'{"schema": 1}}', "x.json:1: not JSON: extra data"),
        (b"\xff", "x.json: not JSON: byte 0 is no UTF-8"),
        (b"[" * 100_000, "x.json: not a spec: it is nested too deeply"),
        (b'{"a":' * 100_000, "x.json: not a spec: it is nested too deeply"),
        (b'{"schema": 1, "containers": [{"name": "x", "metadata": {"a": NaN}}]}', "x.json: not JSON: NaN is no number"),
        (b'{"schema": -Infinity}', "x.json: not JSON: -Infinity is no number"),
        (b'{"a": "\x00"}', "x.json:1: not JSON: invalid control character at"),
    ],
)
def test_a_text_that_is_no_document_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(HakoError) as caught:
        from_plain(parse(text, "x.json"), called="x.json")
    assert caught.value.lines() == [told]


@pytest.mark.parametrize(
    ("inside", "path"),
    [
        (b'"process": {"uid": 1' + b"0" * 100_000 + b"}", "process.uid"),
        (b'"process": {"uid": 1' + b"0" * 20 + b"}", "process.uid"),
        (b'"resources": {"cgroup": {"cpus": 1e999}}', "resources.cgroup.cpus"),
        (b'"metadata": {"a": 1' + b"0" * 5000 + b"}", "metadata.a"),
        (rb'"process": {"command": ["a\u0000b"]}', "process.command[0]"),
        (rb'"process": {"command": ["\ud800"]}', "process.command"),
        (rb'"process": {"environ": {"\ud800": "x"}}', r"process.environ['\ud800']"),
        (rb'"process": {"environ": {"a\u0000": "x"}}', r"process.environ['a\x00']"),
        (rb'"metadata": {"\u0000": 1}', r"metadata['\x00']"),
        (rb'"files": {"mounts": [{"source": "/\ud800", "target": "/b"}]}', "files.mounts[0].source"),
        (rb'"files": {"mounts": [{"source": "/a", "target": "/b", "fs": "\u0000"}]}', "files.mounts[0].fs"),
        (rb'"files": {"masked_paths": ["/\u0000"]}', "files.masked_paths[0]"),
        (rb'"security": {"apparmor": "a\nb"}', "security.apparmor"),
        (
            rb'"build": {"bootstrap": {"strategy": "recipe", "settings": {"recipe": "../x"}}}',
            "build.bootstrap.settings.recipe",
        ),
        (
            rb'"build": {"provision": {"steps": [{"kind": "shell", "name": "a\u001b[2J"}]}}',
            "build.provision.steps[0].name",
        ),
        (b'"process": {"uid": 3, "uid": 0}', "process.uid"),
        (b'"process": {}, "process": {}', "process"),
        (b'"metadata": {"a": {"b": 1, "b": 2}}', "metadata.a.b"),
    ],
)
def test_a_hostile_value_is_refused_by_its_path(inside: bytes, path: str) -> None:
    text = b'{"schema": 1, "containers": [{"name": "x", ' + inside + b"}]}"
    with pytest.raises(Problems) as caught:
        from_plain(parse(text, "x.json"), called="x.json")
    lines = caught.value.lines()
    assert len(lines) == 1
    assert lines[0].startswith(f"x.json: containers[0].{path}: ")
    assert len(lines[0]) < 400
    assert lines[0].isprintable()


def test_a_value_that_is_nested_deeply_is_refused() -> None:
    value: Any = 1
    for _ in range(100):
        value = {"a": value}
    assert problems_of(document(metadata=value)) == ["x.json: is nested too deeply"]


def test_a_document_is_read_to_a_limit(tmp_path: Path) -> None:
    from hakoniwa.spec.documents.document import read_document

    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.truncate(100 << 20)
    with pytest.raises(HakoError, match=f"bytes are more than the {LARGEST} that are read"):
        read_document(str(path))


# Functions


def module_level(base: object, word: str = "x") -> None:
    """With a default, and found by its name."""


def test_a_function_is_named_by_file_and_line() -> None:
    def inner(base: object) -> None:
        pass

    alone = lambda base: None  # noqa: E731
    for function in (inner, alone, module_level):
        code = function.__code__
        named = {"file": __file__, "line": code.co_firstlineno, "name": function.__qualname__}
        assert name_function(function) == named


def test_a_function_that_cannot_be_named_says_so() -> None:
    variable = 3
    pair = (lambda base: 1, lambda base: 2)
    names: dict[str, Any] = {}
    exec("def made(base): pass", names)

    class Callable_:
        def __call__(self, base: object) -> None: ...

        def method(self, base: object) -> None: ...

    def default(base: object, word: int = variable) -> None: ...

    for function, told in [
        (lambda base: variable, "it uses variables of the function around it: variable"),
        (pair[0], "does not tell which function it is"),
        (names["made"], "it is in no file, but in <string>"),
        (print, "it is a builtin_function_or_method"),
        (Callable_(), "it is a Callable_"),
        (Callable_().method, "it is a method"),
        (default, "it has default values, and is not what its module has by that name"),
    ]:
        with pytest.raises(HakoError, match=told) as caught:
            name_function(function, "dev.haco.py:3")
        assert caught.value.where == "dev.haco.py:3"


def test_an_object_that_is_a_strategy_cannot_be_passed_on(write_file: Callable[..., Path]) -> None:
    head = "class Own:\n    def bootstrap(self, boot): pass"
    barn = load(str(write_file("config.bootstrap.strategy = Own()", head=head)), "check")
    with pytest.raises(HakoError, match="the strategy 'Own' is an object") as caught:
        to_plain(barn, functions=True)
    assert caught.value.where.endswith("box.haco.py:5")
    build = to_plain(barn)["containers"][0]["build"]
    assert build == {"bootstrap": {"skip": True}}
    assert without_functions(barn)[1] == [f"how the rootfs is made ({caught.value.where})"]


def test_a_function_that_is_not_found_is_told_by_its_path() -> None:
    def resolve(named: dict[str, Any]) -> Any:
        raise HakoError(f"there is no {named['name']}")

    hook = Hook(point="setup", function=module_level)
    barn = from_plain(MINIMAL).replace(hooks=(hook,))
    with pytest.raises(Problems) as caught:
        from_plain(to_plain(barn, functions=True), functions=resolve)
    assert caught.value.lines() == ["hooks[0].function: there is no module_level"]


# What was recorded


def test_what_was_recorded_is_a_document_again(write_file: Callable[..., Path]) -> None:
    body = """
config.bootstrap.strategy = "python"
config.bootstrap.code = f
config.provision.run_python(f, name="p")
config.provision.run_shell("true", name="s")
config.add_mount_point("/a", to="/b")
@config.add_general_hook("after_fork")
def hook(base): pass
@config.add_timer_hook(every=3)
def timer(base): pass
"""
    barn = load(str(write_file(body, head="def f(x): pass")), "check")
    whole = json.loads(json.dumps(Definition.of(barn.containers[0]).whole))
    found, left = read_recorded(barn.name, barn.file, [whole])
    assert to_plain(found) == to_plain(barn)
    assert left == ["the hook 'after_fork'", "the timer hook", "how the rootfs is made", "the step of provisioning 'p'"]


def test_everything_can_be_recorded() -> None:
    barn = from_plain(EVERYTHING)
    whole = [json.loads(json.dumps(Definition.of(container).whole)) for container in barn.containers]
    found, left = read_recorded(barn.name, "/srv/barn.json", whole)
    assert to_plain(found)["containers"] == to_plain(barn)["containers"]
    assert not left


def test_hooks_alone_make_no_group_of_a_document() -> None:
    container = Container(name="x", hooks=Hooks(general=(Hook(point="after_fork", function=module_level),)))
    assert to_plain(Barn(containers=(container,))) == {"schema": 1, "containers": [{"name": "x"}]}
    assert Mount(source="/a", target="/b") == Mount(source="/a", target="/b", fs=None)


def test_an_ordinary_file_loads_nothing_of_documents(write_file: Callable[..., Path]) -> None:
    path = write_file(
        'config.name = "x"\nconfig.add_mount_point("/srv", to="/srv")\nconfig.mount_independent("procfs")'
    )
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; from hakoniwa.haco.loader import load; load({str(path)!r}, 'start')"
    )
    code += "; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-ISc", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "hakoniwa.spec.rules.rules" in loaded
    of_documents = {"hakoniwa.spec.documents", "hakoniwa.spec.functions", "hakoniwa.spec.rules.values"}
    of_networks = {"hakoniwa.spec.networks", "hakoniwa.spec.rules.networkrules", "hakoniwa.spec.rules.addresses"}
    of_builds = {"hakoniwa.spec.rules.buildchecks", "hakoniwa.spec.rules.buildrules"}
    of_sections = {
        f"hakoniwa.haco.sections.{name}"
        for name in ("bootstrap", "cgroup", "namespace", "network", "settings", "seccomp", "provision")
    }
    unwanted = of_documents | of_networks | of_builds | of_sections
    assert all(importlib.util.find_spec(name) for name in unwanted)
    assert not unwanted & set(loaded)
    assert "json" not in loaded
