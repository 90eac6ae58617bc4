"""What people look at in a browser: the page, the documentation, and the reference of the API."""
