"""The data sets: archives in, `manifest.csv` out. One module holds all of a data set."""
