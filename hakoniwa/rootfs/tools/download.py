"""Fetch an archive by https, held to its hash; kept in the cache by that hash."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request

from hakoniwa import __version__
from hakoniwa.errors import HakoError
from hakoniwa.places import cache_dir, ensure_private
from hakoniwa.rootfs.tools.tmpfile import UnnamedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from hakoniwa.rootfs.tools.progress import Progress, Stage

_CHUNK = 1 << 18
_PATIENCE = 30.0  # seconds without a byte


class _StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def folder() -> str:
    """Where what was fetched lies, by its SHA-256."""
    return os.path.join(cache_dir(), "downloads")


def download(url: str, sha256: str, where: str, progress: Progress) -> str:
    """The path of the file. Raises HakoError, and leaves nothing half-fetched."""
    place = os.path.join(folder(), sha256)
    if os.path.exists(place):
        return place
    ensure_private(folder())
    request = urllib.request.Request(url, headers={"User-Agent": f"hakoniwa/{__version__}"})
    opener = urllib.request.build_opener(_StayEncrypted)
    try:
        with UnnamedFile(place) as file, opener.open(request, timeout=_PATIENCE) as answer:
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            with progress.stage(f"fetching {url}", total) as stage:
                found = _copy(answer, file.descriptor, stage)
            if total is not None and stage.done != total:
                raise HakoError(f"cannot fetch {url}: it ended after {stage.done} of {total} bytes", where=where)
            if found != sha256:
                told = f"{url} is not what is asked for: its SHA-256 is {found}"
                raise HakoError(told, where=where, hint="correct config.bootstrap.sha256, if you trust it")
            file.give_name()
    except urllib.error.URLError as error:  # an OSError
        reason = error.reason if not isinstance(error, urllib.error.HTTPError) else f"{error.code} {error.reason}"
        raise HakoError(f"cannot fetch {url}: {reason}", where=where) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise HakoError(f"cannot fetch {url}: {str(error) or type(error).__name__}", where=where) from None
    return place


def _copy(answer: IO[bytes], file: int, stage: Stage) -> str:
    """Copy to the file as it comes. Returns its SHA-256."""
    hashed = hashlib.sha256()
    while more := answer.read(_CHUNK):
        hashed.update(more)
        stage.advance(len(more))
        while more:
            more = more[os.write(file, more) :]
    return hashed.hexdigest()
