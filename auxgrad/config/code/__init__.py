"""Import the user's code, determine its version, and shorten its tracebacks."""
