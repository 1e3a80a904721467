"""How a folder becomes a rootfs: straight from its strategy, or as a stack of layers that are kept and found again."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.filesystem import tree
from hakoniwa.known import marks
from hakoniwa.places import layer_tree
from hakoniwa.rootfs.build.strategy import described, load_strategy, must_be_possible, summary
from hakoniwa.rootfs.build.strays import StrayWatch
from hakoniwa.rootfs.provision import provisioning
from hakoniwa.rootfs.provision.stepprocess import run_inside
from hakoniwa.rootfs.store import layers
from hakoniwa.rootfs.store.discards import remove_tree
from hakoniwa.rootfs.store.overlay import can_overlay, copy_merged, prepare_top
from hakoniwa.rootfs.store.registry import remove_stale_marks, salvage_mark, write_mark
from hakoniwa.rootfs.store.roots import root_of
from hakoniwa.rootfs.tools.boot import Boot
from hakoniwa.rootfs.tools.digests import asked, digest, function_text
from hakoniwa.spec.outline import outline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hakoniwa.known.marks import Mark
    from hakoniwa.rootfs.build.options import BuildOptions
    from hakoniwa.rootfs.tools.progress import Progress
    from hakoniwa.spec.records import Container, Maps, ProvisionStep


class Assembly:
    """One rootfs that is assembled in `folder`."""

    def __init__(
        self, container: Container, folder: str, options: BuildOptions, progress: Progress, maps: Maps | None = None
    ) -> None:
        self.container = container
        self.folder = folder
        self.mark = provisioning.new_mark(container)
        self.store = -1  # keeps the layers from being pruned until they are marked as used
        self._identity: Any = None
        self._failed = False  # at a step that ended by itself
        self._options = options
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
            prepare_top(self.folder, layer_tree(self.mark.layers[-1]))
        elif self._is_kept() and can_overlay(self.folder):
            self._stack()
            chain = self.mark.layers
            self.mark = provisioning.new_mark(self.container, steps=self.mark.steps)
            copy_merged(self.container, chain, self.folder)
        else:
            self._fill(self.folder)
        self._take_rest()

    def is_resumable(self) -> bool:
        """Whether what is in the folder is worth going on with, and marked so."""
        return self._failed

    def _take_up(self) -> bool:
        """Go on with what an earlier build has left, if it was of the same definition and ended by itself."""
        left = salvage_mark(self.folder)
        if left is None or left.failed is None or not self._options.from_cache or not self._options.provision:
            return False
        if left.asked != asked(self.container) or self._differs(left):
            return False
        self._progress.tell(f"going on at step {left.failed!r} of provisioning")
        self.mark = left.replace(failed=None, said=outline(self.container))
        return True

    def _differs(self, left: Mark) -> bool:
        """Whether a step that was taken has changed since: its work cannot be undone."""
        due = {identity for step, identity, _ in provisioning.pending(self.container, left) if not step.always}
        taken = {identity for _, identity, _ in provisioning.identified(self.container)} & set(left.steps)
        return bool(due & taken) or not set(left.steps) <= taken

    def _clear(self) -> None:
        for entry in os.listdir(self.folder):
            remove_tree(os.path.join(self.folder, entry))
        remove_stale_marks(self.folder)

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
        anew = not self._options.from_cache
        facts = layers.Facts(what=summary(self.container), kind="bootstrap")
        base = layers.obtain(self._base_key(), facts, self._fill_layer, self._progress, anew=anew)
        chain: tuple[str, ...] = (base,)
        steps = {}
        for step, identity, hashed in provisioning.identified(self.container) if self._options.provision else []:
            if step.always or len(chain) >= layers.MOST_LAYERS:
                break
            key = digest(["step", chain[-1], hashed, self._profile()])
            facts = layers.Facts(what=step.label, kind="step", parent=chain[-1])

            def take(
                folder: str, step: ProvisionStep = step, hashed: str = hashed, below: tuple[str, ...] = chain
            ) -> None:
                self._step_layer(folder, step, hashed, below)

            chain = (*chain, layers.obtain(key, facts, take, self._progress, anew=anew))
            steps[identity] = hashed
        self.mark = provisioning.new_mark(self.container, chain, steps)

    def _profile(self) -> list[object]:
        """The settings of the container that its steps depend on."""
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

    def _step_layer(self, folder: str, step: ProvisionStep, hashed: str, below: tuple[str, ...]) -> None:
        prepare_top(folder, layer_tree(below[-1]))
        run_inside(self.container, step, hashed, root_of(self.container, folder, below), self._progress)
        remove_tree(os.path.join(folder, "work"))
        os.rename(os.path.join(folder, "upper"), os.path.join(folder, "tree"))

    # In the folder itself

    def _take_rest(self) -> None:
        """Take the steps that are not in layers."""
        due = provisioning.pending(self.container, self.mark) if self._options.provision else []
        if not due:
            return
        try:
            self.mark = provisioning.take_steps(self.container, self.folder, self.mark, due, self._progress)
        except HakoError:
            if self.mark.form == "plain" and (left := marks.read(self.folder)) is not None:
                write_mark(self.folder, left.replace(failed=left.provisioning))
                self._failed = True
            raise

    def _fill(self, folder: str) -> None:
        """Let the strategy fill a folder, then give it its owner and let the file's own functions have it."""
        container, bootstrap = self.container, self.container.build.bootstrap
        boot = Boot(container, folder, self._progress, self._identity)
        must_be_possible(container, self._strategy)
        with StrayWatch(container.files.rootfs.path, folder, self._progress):
            if hasattr(self._strategy, "fill"):
                self._strategy.fill(boot, bootstrap)
            else:
                boot.call(self._strategy.bootstrap, f"strategy {described(container)}", bootstrap.where)
        if not os.listdir(folder):
            hint = f"the folder to fill was {getattr(self._strategy, 'FOLDER', 'boot.rootfs')}"
            told = f"strategy {described(container)} left the rootfs empty"
            raise HakoError(told, where=bootstrap.where, hint=hint)
        os.chmod(folder, 0o755)
        uid, gid = container.files.rootfs.owner_uid, container.files.rootfs.owner_gid
        if uid is not None and gid is not None and bootstrap.strategy != "host":
            _own(folder, uid, gid)
        for hook in bootstrap.postprocess:
            boot.call(hook.function, "postprocess", hook.where)


def _own(folder: str, uid: int, gid: int) -> None:
    """Give everything in a folder to one owner; symlinks are changed, not followed."""
    with tree.Place(folder) as place:
        for event, name in place.walk():
            if event != tree.ENTERED:
                os.chown(name, uid, gid, dir_fd=place.folder, follow_symlinks=False)
    os.chown(folder, uid, gid)
