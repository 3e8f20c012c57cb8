"""Models: card, file, fit to a telescope, and prediction."""
