"""The rules of what is said of a build: see rules.py. Loaded for a spec that says something of it."""

from __future__ import annotations

from hakoniwa.spec.buildchecks import OF_OTHERS, SETTINGS, URLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from hakoniwa.spec.records import Bootstrap, Build

    Broken = tuple[str, str, str, str | None]  # the path, the message, and the two hints


def broken_build_rules(build: Build) -> Iterator[Broken]:
    """Every broken rule."""
    bootstrap = build.bootstrap
    yield from _settings_fit(bootstrap)
    if bootstrap.strategy == "host" and bootstrap.cache:
        yield _about("cache", "strategy 'host' has nothing to cache", "remove config.bootstrap.cache", "remove it")
    if bootstrap.strategy == "tarball" and (archive := bootstrap.settings.get("archive_path")):
        yield from _archive_fits(archive, bootstrap.settings.get("sha256"))
    if bootstrap.strategy == "git" and (url := bootstrap.settings.get("git_url")):
        yield from _git_url_fits(url)
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
    known = SETTINGS.get(strategy, OF_OTHERS) if isinstance(strategy, str) else OF_OTHERS
    if known and known is not OF_OTHERS and bootstrap.settings.get(known[0]) is None:
        told = f"strategy {strategy!r} needs config.bootstrap.{known[0]}"
        yield "build.bootstrap.strategy", told, "set it", f"set build.bootstrap.settings.{known[0]}"
    for name in bootstrap.settings:
        if name not in known:
            yield _about(name, f"config.bootstrap.{name} means nothing to strategy {strategy!r}", "remove it")


def _archive_fits(archive: str, digest: object) -> Iterator[Broken]:
    if archive.startswith("https://"):
        if not digest:
            told = "an archive from the network needs config.bootstrap.sha256"
            yield _about("archive_path", told, "sha256sum FILE prints it")
    elif archive.startswith(URLS):
        yield _about("archive_path", f"archive_path takes a path or an https:// URL, not {archive!r:.80}")


def _git_url_fits(url: str) -> Iterator[Broken]:
    """A transport helper (`ext::`) runs any command: `man 7 gitremote-helpers`."""
    scheme, separator, _ = url.partition("://")
    remote_helper = "::" in url.partition("/")[0]
    if remote_helper or (separator and scheme not in ("https", "ssh", "file")):
        yield _about("git_url", f"the protocol of {url!r:.80} is not allowed", "https, ssh and file are")
