"""Telescope events, wherever they come from."""
