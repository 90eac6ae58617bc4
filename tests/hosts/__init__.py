"""Applications that have taskapi in them, for the tests."""
