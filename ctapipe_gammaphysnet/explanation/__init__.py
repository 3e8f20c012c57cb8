"""What the networks look at: heatmaps and attention maps, and what is in them."""
