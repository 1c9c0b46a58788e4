"""Parts of an optimisation step after the gradients: averaging, censoring, updating, counting."""
