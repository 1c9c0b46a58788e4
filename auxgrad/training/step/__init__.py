"""What follows the gradients in an optimisation step: averaging, censoring, updating, counting."""
