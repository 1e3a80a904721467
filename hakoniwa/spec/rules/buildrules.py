"""The rules of what is said of a build: see rules.py. Loaded for a spec that says something of it."""

from __future__ import annotations

from hakoniwa.spec.rules.buildchecks import OF_OTHERS, URLS, of_kind
from hakoniwa.spec.strategies import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from hakoniwa.spec.records import Bootstrap, Build

    Broken = tuple[str, str, str, str | None]  # the path, the message, and the two hints


def broken_build_rules(build: Build) -> Iterator[Broken]:
    """Every broken rule."""
    bootstrap = build.bootstrap
    yield from _settings_fit(bootstrap)
    if bootstrap.strategy == "host" and bootstrap.cache:
        yield _about("cache", "strategy 'host' has nothing to cache", "remove config.bootstrap.cache", "remove it")
    for name in of_kind(bootstrap.strategy, "archive"):
        digests = of_kind(bootstrap.strategy, "digest")
        yield from _archive_fits(name, bootstrap.settings, digests)
    for name in of_kind(bootstrap.strategy, "repository"):
        yield from _repository_fits(name, bootstrap.settings.get(name, ""))
    for number, step in enumerate(build.provision.steps):
        if step.kind == "copy" and not (step.source and step.target):
            yield f"build.provision.steps[{number}]", "a step that copies needs source and target", "", None
        if step.kind == "python" and step.function is None:
            told = "a step of Python needs a function, which a document cannot say"
            yield f"build.provision.steps[{number}]", told, "", None


def _about(setting: str, message: str, hint: str = "", plainly: str | None = None) -> Broken:
    return f"build.bootstrap.settings.{setting}", message, hint, plainly


def _settings_fit(bootstrap: Bootstrap) -> Iterator[Broken]:
    strategy = bootstrap.strategy
    known = SETTINGS.get(strategy) if isinstance(strategy, str) else None
    needed = next(iter(known), None) if known else None
    if needed is not None and bootstrap.settings.get(needed) is None:
        told = f"strategy {strategy!r} needs config.bootstrap.{needed}"
        yield "build.bootstrap.strategy", told, "set it", f"set build.bootstrap.settings.{needed}"
    for name in bootstrap.settings:
        if name not in (OF_OTHERS if known is None else known):
            yield _about(name, f"config.bootstrap.{name} means nothing to strategy {strategy!r}", "remove it")


def _archive_fits(name: str, settings: Mapping[str, Any], digests: list[str]) -> Iterator[Broken]:
    archive = settings.get(name) or ""
    if archive.startswith("https://"):
        for digest in digests:
            if not settings.get(digest):
                told = f"an archive from the network needs config.bootstrap.{digest}"
                yield _about(name, told, "sha256sum FILE prints it")
    elif archive.startswith(URLS):
        yield _about(name, f"{name} takes a path or an https:// URL, not {archive!r:.80}")


def _repository_fits(name: str, url: str) -> Iterator[Broken]:
    """A transport helper (`ext::`) runs any command: `man 7 gitremote-helpers`."""
    scheme, separator, _ = url.partition("://")
    remote_helper = "::" in url.partition("/")[0]
    if remote_helper or (separator and scheme not in ("https", "ssh", "file")):
        yield _about(name, f"the protocol of {url!r:.80} is not allowed", "https, ssh and file are")
