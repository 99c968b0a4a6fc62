"""The configuration: what people may set, and what it resolves to."""
