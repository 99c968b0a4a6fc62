"""The data sets: archives in, `manifest.csv` out. One short module a data set."""
