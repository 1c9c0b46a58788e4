"""What Hydra must find by name. Every Hydra program imports this: no TensorFlow, no MLflow here."""
