"""The tables of the paper: published and reproduced numbers side by side."""
