"""Loss functions: pure, each in its own module."""
