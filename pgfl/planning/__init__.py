"""What the workflow would do, costs, is at, and leaves out."""
