"""Columns of numbers in the CSV files that tables and pictures are made of."""

import numpy as np
import pandas as pd

from pgfl.errors import UserError
from pgfl.runtime.messages import shown


def finite_numbers(column: pd.Series, what: str, empty: bool = False) -> pd.Series:
    """A column as float64.

    Args:
        column: of a table that `read_table` read.
        what: begins the message.
        empty: whether a value may be missing.

    Raises:
        UserError: a value is no number, or none that is finite.
    """
    numbers = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = ~np.isfinite(numbers) & ~(column.isna() & empty)
    if wrong.any():
        row = wrong.idxmax()
        given = "nothing" if pd.isna(column[row]) else shown(column[row])
        raise UserError(f"{what}row {row + 2}: {column.name} must be a number (got {given})")
    return numbers
