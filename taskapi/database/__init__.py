"""What is stored: the table, its versions, and what can be asked of and done to it, on either database."""
