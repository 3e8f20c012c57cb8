"""Files and paths: read, written whole, and named as users name them."""
