"""What people look at in a browser: the page, and the reference of the API."""
