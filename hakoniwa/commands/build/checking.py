"""What `hako check` looks for besides: statements that do nothing, and what is not there on this machine."""

from __future__ import annotations

import ast
import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.haco.explain import KINDS
from hakoniwa.haco.loader import is_document
from hakoniwa.known.kept import read_file
from hakoniwa.spec.rules.buildchecks import of_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakoniwa.spec.records import Barn, Container

# Hooks that may make what is mounted afterwards.
_BEFORE_MOUNTS = (
    "before_fork",
    "immediately_after_fork_on_parent",
    "after_network_created",
    "after_fork",
    "after_network_initialized",
)


def find_problems(barn: Barn, shown: str) -> list[HakoError]:
    """Everything of that kind that is an error. What a hook may still bring about is told as a warning."""
    problems = _bare_words(read_file(barn.file), shown)
    for container in barn.containers:
        problems += [*_wrong_parameters(container), *_wrong_options(container)]
        missing = list(_missing(container))
        if barn.hooks_at("setup") or any(container.hooks_at(point) for point in _BEFORE_MOUNTS):
            for problem in missing:
                log.write(f"{problem}; unless a hook makes it", "warning")
        else:
            problems += [problem for problem in missing if str(problem) not in map(str, problems)]
    return problems


def _bare_words(source: bytes, shown: str) -> list[HakoError]:
    """Statements such as `config.daemonize`, without parentheses: Python takes them for a look, and does nothing."""
    if is_document(source):
        return []
    tree = ast.parse(source)
    methods = {word for kind in KINDS for word in dir(kind) if not word.startswith("_")}
    builders = _builders(tree)
    problems = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Attribute):
            continue
        word = ast.unparse(node.value)
        if node.value.attr in methods:
            hint = f"write {word}()"
        elif _root(node.value) in builders:
            hint = f"write {word} = ..."
        else:
            continue
        problems.append(HakoError(f"the statement {word} does nothing", where=f"{shown}:{node.lineno}", hint=hint))
    return problems


def _builders(tree: ast.Module) -> set[str]:
    """The names that `with ... as NAME` gives to a barn, a container or a section."""
    names: set[str] = set()
    for node in ast.walk(tree):  # outer ones come before inner ones
        for item in node.items if isinstance(node, ast.With) else ():
            made = item.context_expr.func if isinstance(item.context_expr, ast.Call) else item.context_expr
            if isinstance(item.optional_vars, ast.Name) and _root(made) in {"Haconiwa", *names}:
                names.add(item.optional_vars.id)
    return names


def _root(node: ast.expr) -> str:
    """`config` of `config.bootstrap.strategy`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _wrong_parameters(container: Container) -> list[HakoError]:
    """Parameters of cgroups that this kernel does not have, or that nobody can write. For root, who has the controllers."""
    wanted = container.resources.cgroup
    if os.geteuid() != 0 or not (wanted.v1 or wanted.v2 or wanted.memory or wanted.cpus or wanted.pids):
        return []
    from hakoniwa.kernel import cgroup
    from hakoniwa.run.start import groups
    from hakoniwa.run.start.groupfaults import find_fault

    host = cgroup.find_hierarchies()
    try:
        groups.resolve_parameters(container, host)
    except HakoError as error:
        return [error]
    found = [find_fault(parameter, host.v1[parameter.name.partition(".")[0]]) for parameter in wanted.v1]
    found += [find_fault(parameter, host.v2_parent) for parameter in wanted.v2 if host.v2_parent]
    return [fault for fault in found if fault is not None]


# File systems whose options mean nothing outside of them, and have no effect before one is made.
_ASKED = ("tmpfs", "proc", "devpts", "mqueue", "ramfs", "sysfs")


def _wrong_options(container: Container) -> Iterator[HakoError]:
    """Options that a new file system does not take. The kernel is asked, which answers root alone."""
    from hakoniwa.kernel.filesystem import mount as mounting
    from hakoniwa.steps.files.mounts import attributes_and_options

    for mount in container.files.mounts if os.geteuid() == 0 else ():
        _, options = attributes_and_options(mount.options, 0)
        if mount.fs not in _ASKED or not options:
            continue
        try:
            said = mounting.try_options(mount.fs, options)
        except OSError:
            continue  # not root of the host: the start tells
        if said:
            yield HakoError(f"{mount.fs} does not take the options {','.join(options)}: {said}", where=mount.where)


def _missing(container: Container) -> Iterator[HakoError]:
    """What the container needs of the host, and is not there."""
    rootfs, profile = container.files.rootfs, container.security.seccomp.profile
    replaced = [rootfs.replacement] if rootfs.replacement else []
    for mount in (*container.files.mounts, *replaced):
        if mount.fs is None and _is_missing(mount.source):
            yield HakoError(
                f"the source of the mount point {mount.target} is missing: {mount.source}", where=mount.where
            )
    for step in container.build.provision.steps if not container.build.provision.skip else ():
        if step.kind == "copy" and _is_missing(step.source):
            yield HakoError(f"what is to be copied to {step.target} is missing: {step.source}", where=step.where)
    for stream in container.process.streams:
        needed = stream.path if stream.number == 0 else os.path.dirname(stream.path)
        if not stream.inside and _is_missing(needed):
            yield HakoError(
                f"stream {stream.number} cannot be led to {stream.path}: {needed} is missing", where=stream.where
            )
    if container.files.lxcfs_root is not None and _is_missing(container.files.lxcfs_root):
        yield HakoError(
            f"lxcfs is not mounted on {container.files.lxcfs_root}", where=container.where, hint="apt-get install lxcfs"
        )
    if profile not in (None, "default") and _is_missing(profile):
        yield HakoError(f"the seccomp profile is missing: {profile}", where=container.security.seccomp.where)
    bootstrap = container.build.bootstrap
    for name in of_kind(bootstrap.strategy, "archive"):
        archive = bootstrap.settings.get(name, "")
        if archive.startswith("/") and _is_missing(archive) and _is_missing(rootfs.path):
            yield HakoError(f"the archive is missing: {archive}", where=bootstrap.where)


def _is_missing(path: str) -> bool:
    """Whether there certainly is nothing: what this user may not look at is left to the start."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False
