"""The user's own code: how it is imported, which version of it runs, how its errors are shown."""
