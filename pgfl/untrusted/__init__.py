"""Files that others made. Nothing in them is ever run, and none is used unchecked."""
