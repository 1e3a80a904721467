"""A host for tests of containers' networks: a network namespace of its own, with another machine behind its one interface."""

from __future__ import annotations

import json
import os
import secrets
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Hako
from tests.leaks import GRACE
from tests.machines import Machine

TOKEN = secrets.token_hex(3)  # in the names of network namespaces: their folder is the machine's
UPLINK, HOST, OUTSIDE = "up0", "192.0.2.1", "192.0.2.2"


class Host(Machine):
    """The machine that containers run on. `outside` is the other one."""

    def __init__(self) -> None:
        super().__init__()
        self.outside = Machine()
        self.join(UPLINK, self.outside, "eth0")
        self.address(UPLINK, f"{HOST}/24", "2001:db8::1/64")
        self.outside.address("eth0", f"{OUTSIDE}/24", "2001:db8::2/64")
        self.route(UPLINK, OUTSIDE, "2001:db8::2")
        self._before = self._looks()

    def close(self) -> None:
        """End both."""
        self.outside.close()
        super().close()

    def names(self) -> set[str]:
        """The links of the host."""
        return {link.name for link in self.links.every()}

    def _looks(self) -> dict[str, set[str]]:
        """What containers change of a host."""
        settings = [f"ipv{version}/conf/{name}/forwarding" for version in (4, 6) for name in ("all", UPLINK)]
        tables = self.run("nft", "list", "tables").split("\n")
        return {
            "links": self.names(),
            "tables": set(tables) - {""},
            "settings": {f"{setting}={self.setting(f'net/{setting}')}" for setting in settings},
            "routes": {repr(route) for route in self.links.routes()},
        }

    def left(self) -> list[str]:
        """What containers have left, once what goes by itself is gone: a pair of interfaces with the namespace of its one end."""
        poll = select.poll()
        for _ in range(int(GRACE * 100)):
            now = self._looks()
            found = [f"{kind}: {one}" for kind, then in self._before.items() for one in sorted(now[kind] ^ then)]
            if not any(one.startswith("links: ") for one in found):
                return found
            poll.poll(10)
        return found


@pytest.fixture
def host(hako: Hako, places: Path) -> Iterator[Host]:
    """The host, which the test is on. After it, nothing of networks is left there."""
    made = Host()
    try:
        with made.inside():
            yield made
            for name in os.listdir(places / "run") if (places / "run").is_dir() else []:
                if not name.startswith("."):
                    hako("kill", "-n", name, "-T", "0", status=None)
            left = made.left()
            networks = places / "run" / ".network"
            leases = [str(path) for path in (*networks.glob("leases/[!.]*/*"), *networks.glob("sysctls"))]
            leases += [str(path) for path in Path("/run/netns").glob(f"*{TOKEN}*")]
        assert not [*left, *leases], "left behind: " + "; ".join([*left, *leases])
    finally:
        made.close()


def facts_of(places: Path, name: str = "box") -> Any:
    """What the state of a container says of its network."""
    return json.loads((places / "run" / name / "state.json").read_text())["network"]


def address_of(places: Path, name: str = "box", number: int = 0) -> str:
    """The IPv4 address of a container's interface."""
    return str(facts_of(places, name)["interfaces"][number]["address"]).partition("/")[0]
