"""One run: its session, its result, its record."""
