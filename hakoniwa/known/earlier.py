"""What earlier versions have written of containers, as it is written now."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Until schema 2, the settings of a container lay side by side. The words that have another name now are told with it.
_GROUPS: dict[str, dict[str, str]] = {
    "process": {
        **{word: word for word in ("init", "workdir", "environ", "uid", "gid", "groups", "streams")},
        "init_command": "command",
    },
    "namespaces": {
        **{word: word for word in ("entered", "persisted", "uid_map", "gid_map", "time_offset")},
        "namespaces": "own",
    },
    "files": {
        word: word
        for word in ("rootfs", "independent", "mounts", "network_etc", "masked_paths", "readonly_paths", "lxcfs_root")
    },
    "resources": {word: word for word in ("limits", "cgroup", "scheduling")},
    "security": {word: word for word in ("capabilities", "no_new_privs", "seccomp", "apparmor")},
    "build": {word: word for word in ("bootstrap", "provision")},
    "hooks": {"hooks": "general", "background_hooks": "background"},
}

_LAST_WITHOUT_HEAD = 4  # until that schema, the metadata were a part of the definition alone, and pids of processes
_LAST_WITHOUT_NETWORK = 5  # until that schema, a head did not say what lists show of a network
_LAST_CREATED = 2  # until that schema, "created" was said of a container whose rootfs was made; today, of a held one


def bring_up(value: dict[str, Any], schema: int) -> None:
    """Change what a file of `schema` says of a container into what a file of today would say."""
    definition = value.get("definition")
    if schema == 1 and type(definition) is dict:
        flat = dict(definition)
        definition.clear()
        for group, words in _GROUPS.items():
            definition[group] = {new: flat.pop(old) for old, new in words.items() if old in flat}
        definition.update(flat)
    if schema <= _LAST_WITHOUT_HEAD:
        _move_to_head(value)
    if schema <= _LAST_WITHOUT_NETWORK:
        _show_network(value)
    if schema <= _LAST_CREATED and value.get("status") == "created":
        value["status"] = "built"


def _show_network(value: dict[str, Any]) -> None:
    """Raises Unreadable."""
    value.pop("has_network", None)
    if type(value.get("network")) is dict:
        from hakoniwa import recordreader
        from hakoniwa.network.facts import NetworkFacts, shown
        from hakoniwa.spec.networks import Network

        definition = value.get("definition")
        described = definition.get("network") if type(definition) is dict else None
        policy = recordreader.read_field(Network, "policy", described) if type(described) is dict else None
        value["network_shown"] = shown(recordreader.read(NetworkFacts, value["network"]), policy)


def _move_to_head(value: dict[str, Any]) -> None:
    definition = value.get("definition")
    if type(definition) is dict:
        value |= {word: definition[word] for word in ("metadata", "origin") if word in definition}
    for who, before in (("init", ""), ("supervisor", "supervisor_")):
        process = value.pop(who, None)
        if type(process) is dict:
            value |= {f"{before}{field}": process[field] for field in ("pid", "started") if field in process}
