"""Models: card, file, check of the telescopes, and prediction."""
