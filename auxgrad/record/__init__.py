"""Record runs in an MLflow store, and read them."""
