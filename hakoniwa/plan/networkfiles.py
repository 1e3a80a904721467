"""The files of the network that a container gets unless its file mounts others in their place: names, and resolvers."""

from __future__ import annotations

import os

from hakoniwa.places import folder_of
from hakoniwa.steps.files.mounts import BindMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.spec.records import Container

HOSTS, RESOLV = "hosts", "resolv.conf"


def own_file(container: Container, name: str, folder: str = "") -> str:
    """The path on the host of what is mounted on a file of /etc; "" if the container file mounts something there.

    `folder` is that of the container's state, for who cannot ask for it any more.
    """
    if any(mount.target == f"/etc/{name}" for mount in container.files.mounts):
        return ""
    return os.path.join(folder or folder_of(container.name), name)


def network_files(container: Container, folder: str = "") -> list[BindMount]:
    """The steps that mount them. Inside they are read-only, since others write to them as well."""
    where = "" if container.network is None else container.network.where
    found = [(name, own_file(container, name, folder)) for name in (HOSTS, RESOLV)]
    return [
        BindMount(source=path, target=f"/etc/{name}", readonly=True, options=("noexec",), where=where)
        for name, path in found
        if path
    ]
