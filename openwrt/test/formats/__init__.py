"""Readers of the two kinds of packages, written from the formats and not from our writers."""
