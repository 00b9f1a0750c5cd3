"""What is fired: one file a family. A scenario knows operations and invariants, never a variant or a table."""
