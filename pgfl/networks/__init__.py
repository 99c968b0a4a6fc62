"""Whole networks: built from a recipe, saved, read again."""
