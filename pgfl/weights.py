"""Reading network weights from files without ever running code that a file may hold."""

import pickle
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from pgfl.errors import UserError
from pgfl.seal import is_intact


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from `.safetensors`, or from a torch file read with `weights_only=True`.

    Raises:
        UserError: missing, damaged, holding anything but tensors, or needing code to be run.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: refused: it is damaged, or holds more than tensors and would run code"
        ) from None
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise UserError(f"{path}: not a weights file, or damaged ({error})") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise UserError(f"{path}: holds no state dict (a mapping of names to tensors)")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    content = path.read_bytes()
    state = safetensors.torch.load(content)
    if not is_intact(content):
        raise UserError(f"{path}: damaged: its checksum is wrong; delete it to have it made again")
    return state


def load_strictly(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Copy a state dict into a model; every key must be there and fit, step counters aside.

    Args:
        model: gets the values, in its own precision.
        state: read by `read_state`.
        path: named in messages.

    Raises:
        UserError: missing, unexpected or misshapen keys, up to five of each.
    """
    own = model.state_dict()
    # Older files lack BatchNorm's step counters; PyTorch itself loads them without, as we do.
    state = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")} | state
    findings = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": {
            k for k in own.keys() & state.keys() if own[k].shape != state[k].shape
        },
    }
    said = [f"{what}: {_few(keys)}" for what, keys in findings.items() if keys]
    if said:
        raise UserError(f"{path}: does not fit {type(model).__name__}: {'; '.join(said)}")
    model.load_state_dict(state)


def _few(keys: set[str]) -> str:
    shown = sorted(keys)[:5]
    return ", ".join(shown) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
