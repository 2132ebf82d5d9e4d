"""Readers of the two package formats, written independently of the writers in tools/."""
