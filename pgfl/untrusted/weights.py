"""Network weights from files that others wrote, without ever running code that a file may hold.

Read by `torch_files` and `pickled` beside this module, not by torch.load: `weights_only=True`
refuses every file with an object of a class that it was not told of (MMEngine's HistoryBuffer,
omegaconf, NumPy …), and it reads, builds and keeps the optimizer's state, too.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pgfl.errors import UserError
from pgfl.runtime.messages import few
from pgfl.untrusted.pickled import Named, entries
from pgfl.untrusted.recognise import seems_to_be
from pgfl.untrusted.seal import is_intact
from pgfl.untrusted.torch_files import open_torch_file

WRAPPINGS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("backbone", "model_ema", "ema", "state_dict_ema"),
)
"""Names that a state dict lies under, inside of what else a checkpoint holds. The first counts.
MMEngine's `ema_state_dict` is none of them: its `state_dict` holds the averaged weights then."""
MAX_NESTING = 3
MAX_PLACES = 20
"""Prefixes that are tried: enough for any real file, and an end for any other."""

NOT_WEIGHTS: dict[str, Callable[[bytes], bool]] = {
    "is empty; download or copy it again": lambda head: not head,
    "is a Git LFS pointer, not the file itself; run `git lfs pull` where it comes from": (
        lambda head: head.startswith(b"version https://git-lfs")
    ),
    "is a web page (a login, a licence or an error?); open its address in a browser": (
        lambda head: head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
    ),
    "is a compressed file; unpack it first": lambda head: head.startswith((b"\x1f\x8b", b"BZh")),
    "is a tar archive; unpack it first": lambda head: head[257:262] == b"ustar",
    "is an HDF5 file, no weights of torch": lambda head: head.startswith(b"\x89HDF"),
}


@dataclass(frozen=True)
class Layout:
    """How a network that others trained may lie in a file."""

    name: str
    """The network, for messages."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """What the network's input is normalised with: RGB, 0 to 255."""
    dialects: tuple[dict[str, str], ...] = ({},)
    """Other programs' names: beginnings of our names, and what they are there."""
    heads: tuple[str, ...] = ()
    """First parts of names beside the network's own that are left out: classifiers."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file or a file of `torch.save`; the content decides.

    In a checkpoint it lies under one of `WRAPPINGS`. What else is in the file is not used.

    Raises:
        UserError: missing, damaged, another kind of file, or without names of tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    with path.open("rb") as file:
        head = file.read(512)
    for said, fits in NOT_WEIGHTS.items():
        if fits(head):
            raise UserError(f"{path} {said}")
    try:
        return _read_safetensors(path) if head[8:9] == b"{" else _read_torch(path)
    except UserError:
        raise
    except Exception as error:  # zipfile, pickletools and safetensors raise many kinds for damage
        why = ascii(str(error) or type(error).__name__)[1:-1]
        raise UserError(f"{path}: not a weights file, or damaged ({why[:200]})") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    content = path.read_bytes()
    state = safetensors.torch.load(content)
    if not is_intact(content):
        raise UserError(f"{path}: damaged: its checksum is wrong; delete it to have it made again")
    return state


def _read_torch(path: Path) -> dict[str, Tensor]:
    file = open_torch_file(path)
    state = _find_state(file.content, path)
    if state is None:
        raise UserError(
            f"{path}: holds no state dict (names of tensors) but {_said(file.content)}"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not _is_tensor(value):
            raise UserError(
                f"{path}: holds no state dict: {_plain(key)} is {_said(value)}, not a tensor"
            )
    found = {}
    for key, value in state.items():
        try:
            found[key] = file.tensor(value)
        except ValueError as error:
            raise UserError(f"{path}: {_plain(key)}: {error}") from None
    return found


def _find_state(content: Any, path: Path, nesting: int = 0) -> dict[Any, Any] | None:
    found = entries(content)
    if not found or nesting > MAX_NESTING:
        return None
    inner = {
        name: _find_state(found[name], path, nesting + 1) for name in WRAPPINGS if name in found
    }
    used, *others = [name for name, state in inner.items() if state] or [None]
    if used is not None:
        if others:
            print(f"note: {path}: its {used!r} is used, its {_few(others)} is not")
        return inner[used]
    return found if any(_is_tensor(value) for value in found.values()) else None


def _is_tensor(value: Any) -> bool:
    if not isinstance(value, Named) or value.args is None:
        return False
    return value.name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_"))


def _said(content: Any) -> str:
    """What something in a checkpoint is, for a message."""
    if _is_object(content):
        return f"an object of {_plain(content.name)} (give the state_dict() of a network)"
    if isinstance(content, Named) and not content.items:
        return _plain(content.name)
    if found := entries(content):
        inside = [f"; {_plain(k)} is {_said(v)}" for k, v in found.items() if _is_object(v)]
        return f"a dict of {_few(found)}{''.join(inside[:1])}"
    return f"a {type(content).__name__}"


def _is_object(content: Any) -> bool:
    return isinstance(content, Named) and content.state is not None and not content.items


def load_foreign(model: nn.Module, state: dict[str, Tensor], path: Path, layout: Layout) -> None:
    """Copy weights that other programs saved into a model.

    A prefix before all names (`module.`, `backbone.`, whatever fits) is removed. What it
    shows to be beside the network is left out, and a line says so. Preprocessing constants are
    compared.

    Raises:
        UserError: the network's tensors are not all there or do not fit, others are left over,
            there are two networks that fit, or the constants differ; NaN or infinite values.
    """
    state = _without_preprocessing(state, path, layout)
    load_strictly(model, _renamed(state, model.state_dict(), path, layout), path, layout.name)


def _without_preprocessing(
    state: dict[str, Tensor], path: Path, layout: Layout
) -> dict[str, Tensor]:
    """The state less `data_preprocessor.mean`, `pixel_std` and the like, which must be ours."""
    rest = {}
    for key, value in state.items():
        kind = key.rpartition(".")[2].removeprefix("pixel_").removeprefix("image_")
        if kind not in ("mean", "std"):
            rest[key] = value
            continue
        wanted = torch.tensor(layout.mean if kind == "mean" else layout.std)
        found = value.detach().float().flatten()
        if not any(_about(found, wanted / scale) for scale in (1, 255)):
            order = " (BGR?)" if _about(found.flip(0), wanted) else ""
            raise UserError(
                f"{path}: its {_plain(key)} is {_numbers(found)}{order}, but {layout.name} is fed "
                f"here with {kind} {_numbers(wanted)} (RGB): give weights trained with that"
            )
    return rest


def _about(found: Tensor, wanted: Tensor) -> bool:
    # Half precision rounds by up to 0.2 %; Caffe's means differ by 0.4 %.
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=2e-3, atol=0)


def _numbers(values: Tensor) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values[:4].tolist())}]"


def _renamed(
    state: dict[str, Tensor], own: dict[str, Tensor], path: Path, layout: Layout
) -> dict[str, Tensor]:
    """The state by the network's own names, with what is left over."""
    state = _unwrapped(state)
    places = list(_places(state, own, layout.dialects))
    named = [place for place in places if _is_there(place, state, own)]
    fitting = [place for place in named if _has_shapes(place, state, own)]
    if len(fitting) > 1:
        raise UserError(
            f"{path}: holds {len(fitting)} networks that fit {layout.name}, under "
            f"{_few(place.prefix or 'no prefix' for place in fitting)}: keep the one that is meant"
        )
    place = (fitting or named or places or [Place("", {key: key for key in own})])[0]
    rest = state.keys() - set(place.names.values())
    inside = {key for key in rest if key.startswith(place.prefix)}
    if outside := {key.partition(".")[0] for key in rest - inside}:
        print(f"note: {path}: used is what lies under {_few([place.prefix])}; not {_few(outside)}")
    found = {key: state[name] for key, name in place.names.items() if name in state}
    left = {key.removeprefix(place.prefix): state[key] for key in inside}
    return found | {k: v for k, v in left.items() if k.partition(".")[0] not in layout.heads}


@dataclass(frozen=True)
class Place:
    """Where a network may lie in a state dict."""

    prefix: str
    names: dict[str, str]
    """From the network's own names to those of the state."""


def _places(
    state: dict[str, Tensor], own: dict[str, Tensor], dialects: tuple[dict[str, str], ...]
) -> Iterator[Place]:
    """Each prefix that one of the network's names has in the state, in each dialect."""
    for dialect in dialects:
        theirs = {key: _translated(key, dialect) for key in own}
        longest = max((name for name in theirs.values() if not _is_counter(name)), key=len)
        prefixes = {
            key.removesuffix(longest)
            for key in state
            if key == longest or key.endswith(f".{longest}")
        }
        for prefix in sorted(prefixes)[:MAX_PLACES]:
            yield Place(prefix, {key: prefix + name for key, name in theirs.items()})


def _is_there(place: Place, state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    return all(place.names[key] in state for key in own if not _is_counter(key))


def _has_shapes(place: Place, state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    names = place.names
    return all(names[key] not in state or state[names[key]].shape == own[key].shape for key in own)


def _translated(key: str, dialect: dict[str, str]) -> str:
    for ours, theirs in dialect.items():
        if key.startswith(ours):
            return theirs + key.removeprefix(ours)
    return key


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names less what DataParallel (`module.`) and torch.compile (`_orig_mod.`) put into them."""
    names = {
        key: ".".join(part for part in key.split(".") if part not in ("module", "_orig_mod"))
        for key in state
    }
    if len(set(names.values())) < len(names):
        return state
    return {name: state[key] for key, name in names.items()}


def load_strictly(
    model: nn.Module, state: dict[str, Tensor], path: Path, name: str | None = None
) -> None:
    """Copy a state dict into a model; every key must be there and fit, step counters aside.

    Args:
        model: gets the values, in its own precision.
        state: read by `read_state`.
        path: named in messages.
        name: of the network, for weights of others; the message then says what they seem to be.

    Raises:
        UserError: missing, unexpected or misshapen keys, up to five of each; NaN or infinity.
    """
    own = model.state_dict()
    given = state
    # Older files lack BatchNorm's step counters; PyTorch itself loads them without, as we do.
    state = {k: v for k, v in own.items() if _is_counter(k)} | state
    both = own.keys() & state.keys()
    findings = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {k for k in both if own[k].shape != state[k].shape},
        "not of floating point": {
            k for k in both if own[k].is_floating_point() and not state[k].is_floating_point()
        },
    }
    said = [f"{what}: {_few(keys)}" for what, keys in findings.items() if keys]
    if said:
        seems = [f"it seems to be {seems_to_be(given)}"] * (name is not None)
        fits = f"does not fit {name or type(model).__name__}"
        raise UserError(f"{path}: {fits}: {'; '.join(seems + said)}")
    if wrong := {k for k, v in state.items() if not bool(v.float().isfinite().all())}:
        raise UserError(
            f"{path}: NaN or infinite values in {_few(wrong)}: its training failed or the file is "
            "damaged; take an earlier checkpoint or download it again"
        )
    model.load_state_dict(state)


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _few(keys: Iterable[Any]) -> str:
    return ", ".join(few(sorted(map(_plain, keys))))


def _plain(key: Any) -> str:
    """A name out of a file, fit for one line."""
    text = str(key) if isinstance(key, (str, int, float)) else ascii(key)
    return text[:100] if text.isprintable() else ascii(text)[1:-1][:100]
