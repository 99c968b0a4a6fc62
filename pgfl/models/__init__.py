"""The student backbone and the two pose-guided branches that train it."""
