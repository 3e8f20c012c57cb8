"""What the networks look at: heatmaps and attention maps, and their statistics."""
