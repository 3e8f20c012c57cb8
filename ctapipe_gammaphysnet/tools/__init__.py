"""Command line tools, one ctapipe `Tool` per module."""
