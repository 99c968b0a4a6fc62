"""Ranking a gallery for every query, and scoring the ranking."""

from pgfl.retrieval.metrics import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
