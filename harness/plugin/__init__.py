"""racegate in pytest: fixtures for stores and databases, and races as tests."""
