"""Training of γ-PhysNet: images and truth from DL1 files, losses, Lightning."""
