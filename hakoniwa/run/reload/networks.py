"""What of a network a reload changes while the container runs: its published ports, its policy, and names."""

from __future__ import annotations

import os

from hakoniwa.errors import HakoError
from hakoniwa.kernel.security import capabilities
from hakoniwa.run.control.messages import Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from hakoniwa.run.life import Life
    from hakoniwa.spec.networks import Network, Published
    from hakoniwa.spec.records import Container


def apply_network(life: Life, new: Container) -> list[Change]:
    """Publish what the file says now, and have its policy in force. What has no network, or gets none, needs a restart."""
    old, wanted = life.container.network, new.network
    if old is None or wanted is None:
        return []  # told as a whole
    changes = _repair(life)
    if _without_lines(old.published) != _without_lines(wanted.published):
        changes.append(_change(life, "published", wanted, lambda: _publish(life, wanted)))
    before, after = (None if one.policy is None else one.policy.replace(where="") for one in (old, wanted))
    names = [word for word in NAMES if getattr(old, word) != getattr(wanted, word)]
    is_other = _has_other_resolvers(life, new)
    if before != after or (is_other and wanted.policy is not None and any(one.dns for one in wanted.policy.allowed)):
        changes.append(_change(life, "policy", wanted, lambda: _enforce(life, new)))
    if names or is_other:
        changes += _change_names(life, new, names)
    return changes


def _repair(life: Life) -> list[Change]:
    """Make the firewall's table again if somebody has removed it, with what all containers that run have published."""
    from hakoniwa.run.start import ports

    facts, name = life.base.network, life.container.name
    if facts is None:
        return []
    what = "the firewall, which had lost its table"
    try:
        if not ports.prepare_again(facts, facts.published):
            return []
        ports.settle(name, facts, facts.published)
    except HakoError as error:
        return [Change(what=what, outcome=str(error), failed=True)]
    ports.publish_again(name)
    return [Change(what=what, outcome="applied")]


NAMES = ("hosts", "dns_servers", "dns_search", "dns_options")


def _has_other_resolvers(life: Life, new: Container) -> bool:
    """Whether its resolv.conf would be another one now, be it that the host's has changed."""
    from hakoniwa.kernel.filesystem.files import read_file
    from hakoniwa.run.start.networknames import resolver_of

    path = life.base.network.resolv_file if life.base.network is not None else ""
    return bool(path) and read_file(path) != resolver_of(new).text().encode()


def _change_names(life: Life, new: Container, words: list[str]) -> list[Change]:
    """Write the files of names anew."""
    from hakoniwa.run.start.networknames import write_names

    assert new.network is not None
    network = life.container.network
    assert network is not None
    told = [f"network.{word}" for word in words] or ["/etc/resolv.conf, as the host's is now"]
    changed = life.container.replace(network=network.replace(**{word: getattr(new.network, word) for word in words}))
    try:
        write_names(changed, life)
    except HakoError as error:
        return [Change(what=what, outcome=str(error), failed=True) for what in told]
    life.container = changed
    return [Change(what=what, outcome="applied") for what in told]


def _without_lines(published: tuple[Published, ...]) -> list[Published]:
    return [one.replace(where="") for one in published]


def _change(life: Life, word: str, wanted: Network, apply: Callable[[], None]) -> Change:
    """Make one change; the next reload tries again what has failed."""
    from hakoniwa.run.start.networknames import says
    from hakoniwa.spec.networks import Policy, publish_text

    shown = " ".join(map(publish_text, wanted.published)) if word == "published" else says(wanted.policy or Policy())
    try:
        apply()
    except HakoError as error:
        return Change(what=f"network.{word}", outcome=str(error), failed=True)
    network = life.container.network
    assert network is not None
    life.container = life.container.replace(network=network.replace(**{word: getattr(wanted, word)}))
    return Change(what=f"network.{word}: {shown or 'nothing'}", outcome="applied")


def _publish(life: Life, wanted: Network) -> None:
    """Reserve what is new, lead it inside, and let go of what is not published any more. Raises HakoError; then all is as it was."""
    from hakoniwa.network.reservation import Reservation
    from hakoniwa.run.start import ports

    facts, name = life.base.network, life.container.name
    if facts is not None and facts.helper is not None:
        told = "pasta, which is the network without root, has its ports from the start: it needs a restart"
        raise HakoError(told, where=wanted.where)
    if any(one.wake for one in (*wanted.published, *(facts.published if facts else ()))):
        raise HakoError("ports that wake the container need a restart", where=wanted.where)
    if facts is None or not any(ports.addresses_of(facts)):
        raise HakoError("there is no interface on a bridge to lead them to: it needs a restart", where=wanted.where)
    if life.reservation is None:
        life.reservation = Reservation()
        life.undo.add("let go of the published ports", life.reservation.close)
        life.undo.add("withdraw the published ports", lambda: ports.withdraw(life))
    new = life.reservation.take(wanted.published)
    try:
        ports.prepare_again(facts, wanted.published)
        ports.settle(name, facts, wanted.published)
    except BaseException:
        life.reservation.drop(new)
        raise
    life.reservation.keep(wanted.published)
    life.have_network(facts.replace(published=wanted.published))


def _enforce(life: Life, new: Container) -> None:
    from hakoniwa.network import policy as policies
    from hakoniwa.run.start.networknames import resolver_of
    from hakoniwa.spec.rules.networkrules import LIFTS, stands

    assert new.network is not None
    policy = new.network.policy
    if os.geteuid() != 0:
        told = "without root, nobody can change it from outside once the container runs: it needs a restart"
        raise HakoError(told, where="" if policy is None else policy.where)
    lifting = [name for name in LIFTS if life.launch.capabilities & capabilities.mask([name])]
    if stands(policy) and lifting:
        told = f"the container was started with {lifting[0]}, which {LIFTS[lifting[0]]}: it needs a restart"
        raise HakoError(told, where="" if policy is None else policy.where)
    namespace = os.open(f"/proc/{life.base.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        policies.replace(namespace, policy, resolver_of(new).servers)
    finally:
        os.close(namespace)
