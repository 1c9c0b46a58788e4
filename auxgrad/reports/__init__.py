"""Finished runs in; tables, tests and figures out."""
