"""PGFL-KD itself (Zheng et al., 2021): Models 1 to 6 of its Table 6 and all its readings."""
