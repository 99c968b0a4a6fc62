"""`python -m pgfl`: the same as the console command `pgfl`."""

from pgfl.cli import main

if __name__ == "__main__":
    main()
