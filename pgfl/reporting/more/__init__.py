"""What the paper does not have: ranked lists, failures, visibility, stress, diagnosis, poses."""
