"""The user's own code, and Keras' backend for it: how it is imported, its version, its errors."""
