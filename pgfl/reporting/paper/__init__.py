"""The tables and figures of the paper: published and reproduced numbers side by side."""
