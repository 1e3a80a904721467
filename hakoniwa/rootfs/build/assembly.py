"""How a folder becomes a rootfs: straight from its strategy, or as a stack of layers that are kept and found again."""

from __future__ import annotations

import os
import stat

from hakoniwa import boxes
from hakoniwa.errors import HakoError
from hakoniwa.kernel import idmap, mount, process, tree
from hakoniwa.rootfs.build.strays import Watch
from hakoniwa.rootfs.provision import provisioning
from hakoniwa.rootfs.provision.stepprocess import run_inside
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.removal import remove_tree
from hakoniwa.rootfs.store.treecopy import copy_tree
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.digests import asked, digest, function_text
from hakoniwa.spec.outline import outline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from hakoniwa.rootfs.build.selection import How
    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container, Maps, ProvisionStep


class Making:
    """One rootfs that is made in `folder`."""

    def __init__(
        self, container: Container, folder: str, how: How, progress: Progress, maps: Maps | None = None
    ) -> None:
        self.container = container
        self.folder = folder
        self.mark: dict[str, Any] = {}
        self.store = -1  # keeps the layers from being pruned until they are marked as used
        self._identity: Any = None
        self._failed = False  # at a step, on its own
        self._how = how
        self._progress = progress
        self._maps = maps
        self._strategy = load_strategy(container)

    def make(self, *, shared: bool) -> None:
        """Make it. `shared`: several containers run on it, so it is a plain folder."""
        if self._take_up():
            self._take_rest()
            return
        self._clear()
        if self._is_kept() and not shared and can_overlay(self.folder):
            self._stack()
            prepare_top(self.folder, boxes.layer_tree(self.mark["layers"][-1]))
        elif self._is_kept() and can_overlay(self.folder):
            self._stack()
            chain = self.mark["layers"]
            self.mark = provisioning.new_mark(self.container, [], self.mark["steps"])
            copy_merged(self.container, chain, self.folder)
        else:
            self._fill(self.folder)
            self.mark = provisioning.new_mark(self.container, [], {})
        self._take_rest()

    def is_resumable(self) -> bool:
        """Whether what is in the folder is worth going on with, and marked so."""
        return self._failed

    def _take_up(self) -> bool:
        """Go on with what an earlier build has left, if it was of the same definition and ended by itself."""
        left = boxes.salvage(self.folder)
        if left is None or left.get("failed") is None or not self._how.from_cache or not self._how.provision:
            return False
        if left["asked"] != asked(self.container) or self._differs(left):
            return False
        self._progress.tell(f"going on at step {left['failed']!r} of provisioning")
        self.mark = {**left, "failed": None, "said": outline(self.container)}
        return True

    def _differs(self, left: dict[str, Any]) -> bool:
        """Whether a step that was taken would be another one now: its work cannot be taken back."""
        due = {identity for step, identity, _ in provisioning.pending(self.container, left) if not step.always}
        taken = {identity for _, identity, _ in provisioning.identified(self.container)} & set(left["steps"])
        return bool(due & taken) or not set(left["steps"]) <= taken

    def _clear(self) -> None:
        for entry in os.listdir(self.folder):
            remove_tree(os.path.join(self.folder, entry))
        boxes.remove_stale(self.folder)

    def _is_kept(self) -> bool:
        """Whether what the strategy makes is kept as a layer."""
        wanted = self.container.build.bootstrap.cache
        if wanted is not None:
            return wanted
        return getattr(self._strategy, "KEPT", False) and not self.container.build.bootstrap.postprocess

    # As layers

    def _stack(self) -> None:
        """Find or build the layers of the bootstrap, and of the leading steps that are taken only once."""
        self.store = layers.hold_store()
        layers.clear_unfinished()
        anew = not self._how.from_cache
        facts = {"what": _summary(self.container), "kind": "bootstrap"}
        base = layers.obtain(self._base_key(), facts, self._fill_layer, self._progress, anew=anew)
        chain, steps = [base], {}
        for step, identity, hashed in provisioning.identified(self.container) if self._how.provision else []:
            if step.always or len(chain) >= layers.MOST_LAYERS:
                break
            key = digest(["step", chain[-1], hashed, self._profile()])
            facts = {"what": step.label, "kind": "step", "parent": chain[-1]}

            def take(folder: str, step: ProvisionStep = step, hashed: str = hashed) -> None:
                self._step_layer(folder, step, hashed, chain)

            chain.append(layers.obtain(key, facts, take, self._progress, anew=anew))
            steps[identity] = hashed
        self.mark = provisioning.new_mark(self.container, chain, steps)

    def _profile(self) -> list[object]:
        """What of the container bears on its steps."""
        return [list(self.container.security.capabilities.named), self.container.security.seccomp.profile]

    def _base_key(self) -> str:
        """All that the base depends on. A strategy of ours says what that is; else its settings do, or the file's text."""
        container = self.container
        boot = Boot(container, self.folder, self._progress)
        if hasattr(self._strategy, "identify") and hasattr(self._strategy, "fill"):
            inputs = self._identity = self._strategy.identify(boot, container.build.bootstrap)
        else:
            inputs = asked(container)
        owner = (container.files.rootfs.owner_uid, container.files.rootfs.owner_gid)
        after = [function_text(hook.function) for hook in container.build.bootstrap.postprocess]
        ids = [self._maps.uids, self._maps.gids] if self._maps is not None else []
        return digest(["base", described(container), inputs, owner, after, ids, os.uname().machine])

    def _fill_layer(self, folder: str) -> None:
        tree = os.path.join(folder, "tree")
        os.mkdir(tree, 0o755)
        self._fill(tree)

    def _step_layer(self, folder: str, step: ProvisionStep, hashed: str, chain: list[str]) -> None:
        prepare_top(folder, boxes.layer_tree(chain[-1]))
        run_inside(self.container, step, hashed, provisioning.root_of(self.container, folder, chain), self._progress)
        remove_tree(os.path.join(folder, "work"))
        os.rename(os.path.join(folder, "upper"), os.path.join(folder, "tree"))

    # In the folder itself

    def _take_rest(self) -> None:
        """Take the steps that are not in layers."""
        due = provisioning.pending(self.container, self.mark) if self._how.provision else []
        if not due:
            return
        try:
            provisioning.take_steps(self.container, self.folder, self.mark, due, self._progress)
        except HakoError:
            if not self.mark["layers"] and not self.container.files.rootfs.layered:
                boxes.write(self.folder, {**self.mark, "failed": self.mark["provisioning"]})
                self._failed = True
            raise

    def _fill(self, folder: str) -> None:
        """Let the strategy fill a folder, then give it its owner and let the file's own functions have it."""
        container, bootstrap = self.container, self.container.build.bootstrap
        boot = Boot(container, folder, self._progress, self._identity)
        with Watch(container.files.rootfs.path, folder, self._progress):
            if hasattr(self._strategy, "fill"):
                self._strategy.fill(boot, bootstrap)
            else:
                boot.call(self._strategy.bootstrap, f"strategy {described(container)}", bootstrap.where)
        if not os.listdir(folder):
            hint = f"the folder to fill was {'$ROOTFS' if bootstrap.strategy == 'shell' else 'boot.rootfs'}"
            told = f"strategy {described(container)} left the rootfs empty"
            raise HakoError(told, where=bootstrap.where, hint=hint)
        os.chmod(folder, 0o755)
        uid, gid = container.files.rootfs.owner_uid, container.files.rootfs.owner_gid
        if uid is not None and gid is not None and bootstrap.strategy != "host":
            _own(folder, uid, gid)
        for hook in bootstrap.postprocess:
            boot.call(hook.function, "postprocess", hook.where)


def load_strategy(container: Container) -> Any:
    """The module of one of our strategies, or the object of another. Raises HakoError."""
    strategy = container.build.bootstrap.strategy
    if not isinstance(strategy, str):
        return strategy
    from hakoniwa.haco.bootstrap import SETTINGS, load_installed

    if strategy in SETTINGS:
        return _own_strategy(strategy)
    try:
        found = load_installed(strategy)
    except Exception as error:
        told = f"strategy {strategy!r} cannot be loaded: {type(error).__name__}: {error}"
        raise HakoError(told, where=container.build.bootstrap.where, hint="--debug shows the traceback") from error
    if not callable(getattr(found, "bootstrap", None)):
        raise HakoError(f"strategy {strategy!r} has no bootstrap(boot) method", where=container.build.bootstrap.where)
    return found


def _own_strategy(name: str) -> ModuleType:
    from importlib import import_module

    return import_module(f"hakoniwa.rootfs.strategies.{name}")


def described(container: Container) -> str:
    """The strategy as messages name it."""
    strategy = container.build.bootstrap.strategy
    return repr(strategy) if isinstance(strategy, str) else type(strategy).__name__


def _summary(container: Container) -> str:
    """The strategy and its main setting, as a list of layers shows them: `debootstrap bookworm`."""
    strategy = container.build.bootstrap.strategy
    if not isinstance(strategy, str):
        return described(container)
    from hakoniwa.haco.bootstrap import SETTINGS

    main = container.build.bootstrap.settings.get(*SETTINGS.get(strategy, ("",))[:1])
    return f"{strategy} {os.path.basename(main)}" if isinstance(main, str) and "\n" not in main else strategy


def _own(folder: str, uid: int, gid: int) -> None:
    """Give everything in a folder to one owner; symlinks are changed, not followed."""
    with tree.Place(folder) as place:
        for event, name in place.walk():
            if event != tree.ENTERED:
                os.chown(name, uid, gid, dir_fd=place.folder, follow_symlinks=False)
    os.chown(folder, uid, gid)


def prepare_top(folder: str, below: str) -> None:
    """An empty upper layer, which shows as its own root what the layer below has for one, and a place to work in."""
    status = os.stat(below)
    upper = os.path.join(folder, "upper")
    os.mkdir(upper, 0o700)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    os.mkdir(os.path.join(folder, "work"), 0o700)


def can_overlay(folder: str) -> bool:
    """Whether an overlay can have its upper layer in a folder, which is tried."""
    trial = os.path.join(folder, ".trial")
    os.mkdir(trial)
    for name in ("lower", "upper", "work"):
        os.mkdir(os.path.join(trial, name))

    def attempt() -> None:
        options = [f"lowerdir={trial}/lower", f"upperdir={trial}/upper", f"workdir={trial}/work"]
        if any(character in trial for character in ":,\\"):
            os.chdir(trial)
            options = ["lowerdir=lower", "upperdir=upper", "workdir=work"]
        mount.make("overlay", "trial", options if idmap.is_host_root() else [*options, "userxattr"])

    try:
        return in_own_mounts(attempt) == ""
    finally:
        remove_tree(trial)


def in_own_mounts(action: Any) -> str:
    """Call `action` in a child with a mount namespace of its own. Returns what went wrong, in words."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = process.clone(process.NAMESPACES["mount"])
    if pid == 0:
        try:
            mount.make_all_private()
            action()
            os._exit(0)
        except HakoError as error:
            os.write(writer, error.message.encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(1)
    os.close(writer)
    os.close(pidfd)
    said = b""
    while more := os.read(reader, 65536):
        said += more
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said.decode(errors="replace") or (f"ended with {status}" if status else "")


def copy_merged(container: Container, chain: list[str], folder: str) -> None:
    """Copy what layers show together into a folder, sharing the blocks where the file system can. Raises HakoError."""
    top = os.path.join(folder, ".top")
    os.mkdir(top, 0o700)
    prepare_top(top, boxes.layer_tree(chain[-1]))

    def copy() -> None:
        from hakoniwa.steps.step import Context

        context = Context(supervisor=-1, status=-1, environ={})
        provisioning.root_of(container, top, chain).apply(context)
        os.fchdir(context.root)
        copy_tree(".", folder)

    try:
        failure = in_own_mounts(copy)
    finally:
        remove_tree(top)
    if failure:
        raise HakoError(f"cannot copy the layers to {folder}: {failure}")
