"""Files and paths: how they are read, written whole, and named by users."""
