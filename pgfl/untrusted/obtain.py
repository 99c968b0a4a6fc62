"""Getting files that are not ours: found in a folder or downloaded, never used unchecked."""

import http.client
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

from pgfl.errors import UserError
from pgfl.runtime.files import file_hash, folders_with, link_or_copy, scanned, whole_file
from pgfl.runtime.locks import locked
from pgfl.untrusted.packed import SUFFIXES, check_members, opened

TIMEOUT_SECONDS = 60
PATIENCE_SECONDS = 5.0
"""So long an address may take to answer at all."""
BLOCK = 1 << 20
ALLOWED = ("https://", "file://")


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where a download may begin, too: never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request that follows.

        Raises:
            UserError: it would leave https.
        """
        if not newurl.startswith(ALLOWED[:1]):
            raise UserError(f"{req.full_url}: refused, it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


OPENER = urllib.request.build_opener(SafeRedirects)


@dataclass(frozen=True)
class Source:
    """A file that somebody else publishes."""

    name: str
    """The file's own name, as published."""
    checksum: str = ""
    """`algorithm:hexdigest`; a shorter digest is a prefix; empty where none is published."""
    url: str = ""
    """Where it can be downloaded; empty where it cannot."""
    container: "Source | None" = None
    """The zip that the file is published in, if it is not published by itself."""
    note: str = field(default="", compare=False)
    """One sentence for somebody who lacks the file."""
    title: str = ""
    """What people call the data set in it."""
    aliases: frozenset[str] = frozenset()
    """Other names, as `plain_name` writes them, of it and of the folder that it unpacks to."""
    holds: tuple[tuple[str, ...], ...] = ()
    """Names that lie beside each other in what it unpacks to, in one of several ways. Empty for
    weights. What has them has names and counts to be checked later, so that its checksum may be
    another one: people unpack data sets and pack them again."""

    def is_in(self, folder: Path) -> bool:
        """Whether a folder holds it unpacked, however deep."""
        return any(folders_with(folder, names) for names in self.holds)


def obtain(source: Source, target: Path, *, folder: Path, file: Path | None, url: str) -> None:
    """Put the checked file at `target`: `file` if given, else from `folder`, else downloaded.

    Args:
        source: what is wanted.
        target: where it goes; hard-linked from a local file where possible.
        folder: where the user keeps such files.
        file: the user's own choice for this file; it must exist, and its checksum need not be
            the published one (it is the user's file), but a difference is said aloud.
        url: an address that replaces the published one.

    Raises:
        UserError: the file is nowhere, lies there unpacked, the checksum is wrong, or the
            download failed.
    """
    found = find(source, folder, file)
    if found is not None and found.is_dir():
        raise UserError(f"{found}: is unpacked already; no archive of {source.title} is needed")
    if found is not None:
        if file is not None or source.holds:
            _say_if_other(found, source, str(found))
        else:
            check(found, source.checksum)
        with whole_file(target) as temporary:
            link_or_copy(found, temporary)
    elif file is not None:
        raise UserError(f"{file}: no such file, but the configuration names it")
    elif source.container is not None and not url:
        _from_container(source, target, folder)
    elif url or source.url:
        with locked(_part(target)):
            _download(url or source.url, target, source.checksum)
    else:
        raise UserError(explain_missing(source, folder))


def find(source: Source, folder: Path, file: Path | None) -> Path | None:
    """The user's own file, archive or unpacked folder of a source; None where there is none.

    Args:
        source: what is wanted.
        folder: where the user keeps such files; looked through by the published name first, then
            by the names that other code bases use.
        file: the user's own choice, which wins.

    Raises:
        UserError: several could be meant, or the folder cannot be read.
    """
    if file is not None:
        return file if file.exists() else None
    if (folder / source.name).is_file():
        return folder / source.name
    found: dict[Path, Path] = {}
    for path in _named(source, folder):
        if path.resolve() not in found and _can_be(source, path):
            found[path.resolve()] = path
    if len(found) > 1:
        several = ", ".join(map(str, found.values()))
        raise UserError(f"{source.title} may be any of {several}: name one in archives.files")
    return next(iter(found.values()), None)


def _named(source: Source, folder: Path) -> list[Path]:
    """What lies in a folder under one of a source's names."""
    if not source.aliases or not folder.is_dir():
        return []
    names = [entry.name for entry in scanned(folder)]
    return [folder / name for name in names if plain_name(name) in source.aliases]


def _can_be(source: Source, path: Path) -> bool:
    return source.is_in(path) if path.is_dir() else path.name.lower().endswith(SUFFIXES)


def plain_name(name: str) -> str:
    """A file or folder name without case, signs and the endings of archives."""
    lower = name.casefold()
    ending = max((s for s in SUFFIXES if lower.endswith(s)), key=len, default="")
    return "".join(filter(str.isalnum, lower.removesuffix(ending)))


def _say_if_other(path: Path, source: Source, called: str) -> None:
    if matches(path, source.checksum):
        return
    then = "; its names and counts are checked instead" if source.holds else ""
    print(f"note: {called} is not the published {source.name}: sha256 {file_hash(path)}{then}")


def matches(path: Path, checksum: str) -> bool:
    """Whether a file has a checksum `algorithm:hexdigest`; an empty one fits everything."""
    if not checksum:
        return True
    algorithm, _, digest = checksum.partition(":")
    return file_hash(path, algorithm).startswith(digest)


def check(path: Path, checksum: str) -> None:
    """Raise UserError unless the file has the checksum."""
    if matches(path, checksum):
        return
    algorithm, _, digest = checksum.partition(":")
    raise UserError(
        f"{path}: wrong checksum: {algorithm} is {file_hash(path, algorithm)}, expected {digest}; "
        "the file is damaged or another version: get it again"
    )


def explain_missing(source: Source, folder: Path) -> str:
    """One line for somebody who lacks a file: what, why, and where to put it."""
    checksum = f" ({source.checksum})" if source.checksum else ""
    note = f" {source.note}" if source.note else ""
    unpacked = ", or its unpacked folder beside it" if source.holds else ""
    line = f"{source.name} is missing.{note} Put it at {folder / source.name}{checksum}{unpacked}."
    if wrong := [path for path in _named(source, folder) if not _can_be(source, path)]:
        line += f" ({wrong[0]} is there, but holds no {in_words(source.holds)}.)"
    return line


def in_words(holds: tuple[tuple[str, ...], ...]) -> str:
    """What an unpacked source holds: `a, b and c beside each other, or ...`."""
    sets = [f"{', '.join(names[:-1])} and {names[-1]}" for names in holds]
    return f"{', or '.join(sets)} beside each other"


def can_be_had(source: Source, folder: Path, file: Path | None, url: str) -> bool:
    """Whether `obtain` has anything to try: a file or folder that is there, or an address.

    Raises:
        UserError: several in `folder` could be meant, or it cannot be read.
    """
    if find(source, folder, file) is not None:
        return True
    if file is not None:
        return False
    outer = source.container
    return bool(url or source.url or (outer is not None and can_be_had(outer, folder, None, "")))


def unreachable(addresses: Iterable[str]) -> dict[str, str]:
    """Addresses from which nothing can be downloaded now, and why; asked all at the same time.

    Nothing is downloaded. What answers in another way than a download would expect counts as
    reachable: the download itself then says what is wrong.
    """
    reasons: dict[str, str] = {}
    asking = [
        (url, threading.Thread(target=_ask, args=(url, reasons), daemon=True)) for url in addresses
    ]
    for _, thread in asking:
        thread.start()
    until = time.monotonic() + PATIENCE_SECONDS
    for url, thread in asking:
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():  # a name server that does not answer, which no time limit ends
            reasons[url] = f"no answer within {PATIENCE_SECONDS:g} seconds"
    return dict(reasons)


def _ask(url: str, reasons: dict[str, str]) -> None:
    if not url.startswith(ALLOWED):
        return
    try:
        request = urllib.request.Request(url, method="HEAD")
        OPENER.open(request, timeout=PATIENCE_SECONDS).close()
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            reasons[url] = f"{error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        reasons[url] = str(getattr(error, "reason", error))
    except (UserError, ValueError):  # an address that is refused
        pass


def _from_container(source: Source, target: Path, folder: Path) -> None:
    assert source.container is not None
    outer = target.with_name(f"{target.name}.{source.container.name}")
    obtain(source.container, outer, folder=folder, file=None, url="")
    try:
        with opened(outer) as archive, whole_file(target) as temporary:
            members = [one for one in archive.members if Path(one.name).name == source.name]
            if not members:
                raise UserError(f"{outer}: does not hold {source.name}")
            check_members(outer, members[:1], target.parent)
            with archive.open(members[0]) as packed, temporary.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, BLOCK)
            if source.holds:
                _say_if_other(temporary, source, f"{source.name} in {source.container.name}")
            else:
                check(temporary, source.checksum)
    finally:
        outer.unlink(missing_ok=True)


def _download(url: str, target: Path, checksum: str) -> None:
    """Download, going on where an earlier try broke off, then check, then rename."""
    if not url.startswith(ALLOWED):
        raise UserError(f"{url}: only https addresses and file:// are allowed")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not a declared output, so it outlives a failed job and the next try goes on from it.
    part = _part(target)
    start = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        request = urllib.request.Request(url, headers=headers)
        with OPENER.open(request, timeout=TIMEOUT_SECONDS) as reply:
            goes_on = start > 0 and reply.status == 206
            with part.open("ab" if goes_on else "wb") as file:
                begin = file.tell()
                shutil.copyfileobj(reply, file, BLOCK)
                received = file.tell() - begin
            # Python says nothing when a connection ends early, so the length is compared.
            announced = int(reply.headers.get("Content-Length", received))
            if received != announced:
                raise OSError(f"got {received} of {announced} bytes")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the whole file is here already
            raise UserError(f"{url}: download failed ({error}); run again to go on") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: an address or a length that is none
        raise UserError(f"{url}: download failed ({error}); run again to go on") from None
    try:
        check(part, checksum)
    except UserError:
        part.unlink()  # going on from wrong bytes would never end well
        raise
    part.replace(target)


def _part(target: Path) -> Path:
    """Where a download lies until it is whole."""
    return target.with_name(f"{target.name}.part")
