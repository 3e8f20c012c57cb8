"""How good predictions are: metrics, tables, plots and a report."""
