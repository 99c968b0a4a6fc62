"""Procedural people: identities, figures, scenes and the crops a ReID data set is made of."""
