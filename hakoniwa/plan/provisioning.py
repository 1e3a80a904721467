"""The plan of a step of provisioning: made of the same parts as that of a container, whatever the file says."""

from __future__ import annotations

import os

from hakoniwa.plan.container import hidden_paths, independent_mounts
from hakoniwa.plan.process import ProcessPlan
from hakoniwa.spec.held import Process, Resources, Seccomp, Security
from hakoniwa.steps.files import mounts, root
from hakoniwa.steps.process import identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hakoniwa.seccomp.programs import Program
    from hakoniwa.spec.records import Container, ProvisionStep
    from hakoniwa.steps.step import Step

NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts")  # of the host


def process_of(step: ProvisionStep, capabilities: int, filters: tuple[Program, ...]) -> ProcessPlan:
    """What the process of a step is to become: root, with these capabilities and under these filters."""
    return ProcessPlan(
        process=Process(uid=0),
        resources=Resources(),
        security=Security(
            seccomp=Seccomp(profile=None)
        ),  # its filters, made already, bind all that it does and no more
        capabilities=capabilities,
        filters=filters,
        command=(step.shell, "-e", "-c", step.text, step.label) if step.kind == "shell" else None,
        places={"command": step.where, "seccomp": step.where},
        where="",
    )


def entering_steps(container: Container, mounted: Step, process: ProcessPlan) -> list[Step]:
    """What a step has around it: `mounted` mounts its root; the rest is fresh.

    In a user namespace of an ordinary user's, `container` says so (its `namespaces`).
    """
    network = [
        mounts.BindMount(source=path, target=path, readonly=True) for path in NETWORK_FILES if os.path.exists(path)
    ]
    fresh = container.replace(
        files=container.files.replace(independent=("procfs", "sysfs", "devtmpfs"), masked_paths=(), readonly_paths=())
    )
    return [
        root.CutOff(),
        mounted,
        identity.JoinKeyring(),
        process.account(),
        *(step for _, step in independent_mounts(fresh, ())),
        mounts.MakeMount(fs="tmpfs", source="tmp", target="/tmp", options=("mode=1777",)),
        *network,
        *hidden_paths(fresh),
        identity.SetHostname(name=container.hostname),
        root.PivotRoot(),
    ]
