"""The Hydra plugins of auxgrad.

Every Hydra program in the environment imports them, so they must not import TensorFlow or MLflow.
"""
