"""Studies: grids of training runs, their execution and their results."""
