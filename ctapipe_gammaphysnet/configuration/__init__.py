"""Configurations: their files, sections and values."""
