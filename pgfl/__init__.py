"""PGFL-KD: pose-guided feature learning with knowledge distillation for occluded person ReID."""

__version__ = "0.1.0"
