"""The record of runs in an MLflow store."""
