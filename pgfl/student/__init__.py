"""The trained student in its users' hands: features, search, export."""
