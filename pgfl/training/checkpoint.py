"""The resume state: written after every epoch, taken up only by a run that it belongs to.

A file is what torch writes, then the sha256 of that: torch itself does not notice a flipped bit.
The checkpoint of the epoch before is kept beside it, for when it is damaged. A state of another
run (other settings, code or data) is moved aside until the new run has passed it.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pgfl.runtime.files import text_hash, whole_file

DIGEST = hashlib.sha256().digest_size
MOST_ASIDE = 3
"""States of other runs that are kept, the latest."""
MOST_NAMED = 10
"""Differences between two runs that are named."""


@dataclass
class Resume:
    """Where the resume state lies, and whose it is."""

    path: Path
    identity: Mapping[str, Any]
    """All that the result is a function of, but for rounding."""
    computed_on: Mapping[str, Any] = field(default_factory=dict)
    """What this part of the run computes on (devices, threads, torch): a matter of rounding."""
    parts: list[dict[str, Any]] = field(default_factory=list)
    """The same of all parts of the run, each with its first epoch (from 1)."""

    @property
    def key(self) -> str:
        """The identity in a few letters."""
        return text_hash(json.dumps(self.identity, sort_keys=True))[:12]

    def begin_part(self, epoch: int) -> None:
        """Note that the run is computed on this from an epoch on, and say what is different."""
        part = {"from_epoch": epoch, **self.computed_on}
        if self.parts:
            changes = differences(self.parts[-1] | {"from_epoch": epoch}, part)
            if not changes:
                return
            print(f"note: {'; '.join(changes)}: from here on numbers differ by rounding")
        self.parts.append(part)


def save_checkpoint(resume: Resume, history: list[Any], content: Mapping[str, Any]) -> None:
    """Write a checkpoint whole; a kill at any moment leaves the last one, or the one before.

    States of other runs that are not further than this one are removed.
    """
    path = resume.path
    # In memory first: torch has an error of its own for a full disk.
    stream = io.BytesIO()
    own = {"identity": resume.identity, "history": history, "computed_on": resume.parts}
    torch.save({**own, **content}, stream)
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            file.write(stream.getbuffer())
            file.write(hashlib.sha256(stream.getbuffer()).digest())
        if path.exists():
            os.replace(path, previous(path))
    for other, epochs in aside(path):
        if epochs <= len(history):
            other.unlink(missing_ok=True)


def take_up(resume: Resume) -> dict[str, Any] | None:
    """The state that this run goes on from, or None where there is none.

    One of another run is moved aside, and said why; one that was moved aside before, and is this
    run's, is restored.
    """
    path = resume.path
    content = load_checkpoint(path)
    if content is not None and content["identity"] != resume.identity:
        _move_aside(path, content, resume.identity)
        content = None
    own = [other for other, _ in aside(path) if f".{resume.key}." in other.name]
    if content is None and own:
        previous(path).unlink(missing_ok=True)
        os.replace(own[-1], path)
        content = load_checkpoint(path)
    resume.parts[:] = [] if content is None else content["computed_on"]
    return content


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last checkpoint that is in order, or None.

    Returns:
        What `save_checkpoint` was given; `identity` is empty where another version wrote it.
    """
    found = [file for file in (path, previous(path)) if file.is_file()]
    for file in found:
        try:
            content = _read(file)
        except Exception as error:  # torch raises many kinds for a damaged file
            why = str(error).partition("\n")[0]
            other = "trying the one before" if file != found[-1] else "starting again from epoch 1"
            print(f"note: {file} is damaged ({why}): {other}")
            continue
        return content
    return None


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, the one before it and those aside; a finished run needs none."""
    for file in (path, previous(path), *(other for other, _ in aside(path))):
        file.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Where the checkpoint of the epoch before `path` lies."""
    return path.with_suffix(f".previous{path.suffix}")


def aside(path: Path) -> list[tuple[Path, int]]:
    """States of other runs that were moved aside, the oldest first, and their epochs."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.[0-9a-f]{{12}}\.epoch(\d+){path.suffix}")
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    found = [(folder / name, int(hit[1])) for name in names if (hit := pattern.fullmatch(name))]
    return sorted(found, key=lambda one: one[0].stat().st_mtime_ns)


def _move_aside(path: Path, content: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Keep another run's state under its own name, and say what is different."""
    epochs = len(content["history"])
    owner = Resume(path, content["identity"])
    kept = path.with_suffix(f".{owner.key}.epoch{epochs}{path.suffix}")
    os.replace(path if path.is_file() else previous(path), kept)
    os.utime(kept)
    previous(path).unlink(missing_ok=True)
    print(
        f"note: {path} is of another run: {'; '.join(differences(content['identity'], wanted))}. "
        f"It is kept as {kept.name} until this run has passed its epoch {epochs}; with what it "
        "was made with, it is gone on from"
    )
    for other, _ in aside(path)[:-MOST_ASIDE]:
        print(f"note: {other} is removed: {MOST_ASIDE} states of other runs are kept")
        other.unlink(missing_ok=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the identities of two runs, in words: ten at most."""
    if not before:
        return ["another version of this program wrote it"]
    old, new = _flat(before), _flat(now)
    found = []
    for name in [*new, *(name for name in old if name not in new)]:
        if (was := old.get(name)) == (now_is := new.get(name)):
            continue
        kind, _, what = name.partition(".")
        if kind == "code":
            found.append("the code has changed")
        elif kind == "data":
            found.append(f"the file of its {what} has another content")
        else:
            what = what if kind == "settings" else name
            found.append(f"{what} was {_shown(was)} and is {_shown(now_is)}")
    rest = len(found) - MOST_NAMED
    return found if rest <= 0 else [*found[:MOST_NAMED], f"and {rest} more"]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree of mappings by their dotted paths."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _shown(value: Any) -> str:
    return "not set" if value is None else json.dumps(value).strip('"')


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    content, digest = content[:-DIGEST], content[-DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its checksum is wrong")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not isinstance(state.get("history"), list):
        raise ValueError("it is no checkpoint")
    identity = state.get("identity")
    return state | {"identity": identity if isinstance(identity, dict) else {}}
