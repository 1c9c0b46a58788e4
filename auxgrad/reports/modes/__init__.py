"""Modes beside one another: on one study, and over several."""
