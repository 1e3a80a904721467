"""Which rootfs of a file are to be built. What builds them is loaded once there is one."""

from __future__ import annotations

import os

from hakoniwa import log
from hakoniwa.errors import HakoError
from hakoniwa.known import state
from hakoniwa.steps.files.root import not_a_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.rootfs.build.options import BuildOptions
    from hakoniwa.spec.records import Barn, Container


def build_missing(barn: Barn, options: BuildOptions, *, needed: bool = False) -> None:
    """Build the rootfs of each container that lacks one. `needed`: it is an error if there is no way to build one."""
    for container in barn.containers:
        state.must_belong(container)
    places = [container.files.rootfs.path for container in barn.containers]
    for container in barn.containers:
        if container.build.bootstrap.skip:
            continue
        there = is_built(container)
        if there and not options.rebuild:
            if needed:
                _tell_what_is_there(container, options)
        elif container.build.bootstrap.strategy is not None:
            _build(container, options, shared=places.count(container.files.rootfs.path) > 1)
        elif needed and not there and container.files.rootfs.replacement is not None:
            taken = f"{container.files.rootfs.replacement.source} takes the place of the rootfs"
            log.write(f"{container.name}: {taken}: there is nothing to build")
        elif needed:
            raise HakoError(
                "there is no rootfs, and no strategy to make one"
                if not there
                else "there is no strategy to make the rootfs with",
                where=container.files.rootfs.where,
                hint='set config.bootstrap.strategy, "host" for one',
            )


def _build(container: Container, options: BuildOptions, *, shared: bool) -> None:
    from hakoniwa.known.idmaps.callerids import for_ordinary_user
    from hakoniwa.known.idmaps.ids import choose_maps
    from hakoniwa.rootfs.build.construction import build
    from hakoniwa.rootfs.build.strategy import load_strategy
    from hakoniwa.rootfs.rootless import as_root

    maps = None if os.geteuid() == 0 else choose_maps(for_ordinary_user(container))
    if maps is not None and hasattr(strategy := load_strategy(container), "check_outside"):
        strategy.check_outside(container.build.bootstrap, os.path.dirname(container.file))
    as_root(lambda: build(container, options, shared=shared, maps=maps), maps)


def is_built(container: Container) -> bool:
    """Whether something is in place. An empty folder is nothing."""
    path, where = container.files.rootfs.path, container.files.rootfs.where
    try:
        return bool(os.listdir(path))
    except FileNotFoundError:
        if os.path.islink(path):
            raise HakoError(f"the rootfs {path} is a symlink that leads nowhere", where=where) from None
        return False
    except NotADirectoryError:
        raise not_a_folder(path, where) from None
    except OSError as error:
        raise HakoError(f"the rootfs {path} cannot be read: {error.strerror}", where=where) from None


def _tell_what_is_there(container: Container, options: BuildOptions) -> None:
    """Say that it is left alone, and what the file describes otherwise. Raises HakoError if it is half provisioned."""
    from hakoniwa.known import marks
    from hakoniwa.rootfs.provision.provisioning import pending
    from hakoniwa.rootfs.tools.digests import asked
    from hakoniwa.run.start.hostside import must_be_provisioned

    path, name = container.files.rootfs.path, container.name
    mark = marks.read(path)
    if mark is not None:
        must_be_provisioned(container, mark)
        if mark.asked not in ("", asked(container)):
            told = f"{name}: the rootfs {path} is defined differently since it was created"
            log.write(f"{told} (hako create --rebuild {container.file})", "warning")
            return
        left = [step.label for step, _, _ in pending(container, mark) if not step.always]
        if left and options.provision:
            told = f"{name}: the rootfs {path} is there, without what these steps do now: {', '.join(left)}"
            log.write(f"{told} (hako provision {container.file}, or create --rebuild)", "warning")
            return
    if not options.quiet:
        log.write(f"{name}: the rootfs {path} is there already")
