"""HOReID: part features, a graph of one person's parts, and the match of two such graphs."""
