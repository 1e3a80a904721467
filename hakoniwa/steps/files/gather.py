"""The root of strategy `host` in a user namespace."""

from __future__ import annotations

import os

from hakoniwa.kernel.filesystem import mount
from hakoniwa.steps.files.root import open_folder, open_layers
from hakoniwa.steps.files.shown import BindCovered
from hakoniwa.steps.step import Context, Step


class GatherRoot(Step):
    """The root of strategy `host` for an ordinary user: the layer itself, with an overlay for each folder of the host.

    In a user namespace / cannot be the lower layer of an overlay, since what is mounted on it cannot be taken off
    (`man 7 mount_namespaces`); its folders can. One that has something mounted below is read-only, and without that.
    """

    path: str
    readonly: bool
    file: str

    def __str__(self) -> str:
        return f"gather {self.path}/upper and overlays of the host's folders as the root"

    def apply(self, context: Context) -> None:
        folder = open_folder(self.path, self.where, self.file)
        # The work folder tells which folders to gather, so none is made.
        upper, work = open_layers(folder, self.path, self.where, self.file, make_missing=False)
        attributes = mount.NODEV | (mount.RDONLY if self.readonly else 0)
        context.root = mount.clone_tree("", at=upper, recursive=False)
        mount.set_attributes(context.root, attributes)
        mount.attach(context.root, os.open("/", os.O_PATH | os.O_CLOEXEC))  # below no folder that is gathered
        for name in sorted(os.listdir(f"/proc/self/fd/{work}")):
            if mount.points_below(f"/{name}"):
                BindCovered(source=f"/{name}", target=f"/{name}").apply(context)
                continue
            above, beside = (f"/proc/self/fd/{at}/{name}" for at in (upper, work))
            options = [f"lowerdir=/{name}", f"upperdir={above}", f"workdir={beside}", "userxattr"]
            tree = mount.make("overlay", "hakoniwa", options, attributes)
            place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=context.root)
            mount.attach(tree, place)
            os.close(tree)
            os.close(place)
