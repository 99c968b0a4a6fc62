"""PGFL-KD: pose-guided feature learning with knowledge distillation for occluded person ReID.

import pgfl

student = pgfl.load("runs/demo/market1501/pgfl_kd/seed0/model.safetensors")
features = student.embed(["a.jpg", "b.jpg"])  # float32 (2, d), each of length one
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgfl.student.embedder import load

__all__ = ["load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load` comes with torch, so it is imported when it is first asked for."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pgfl.student.embedder import load

    globals()["load"] = load
    return load
