"""Applications of the tests, as different as their users have."""
