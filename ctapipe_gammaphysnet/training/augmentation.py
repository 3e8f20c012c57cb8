"""stub"""
from ctapipe.core import Component
class Augmentation(Component):
    def __init__(self, geometry, **kw):
        super().__init__(**kw)
    def __call__(self, image, peak_time, mask, targets, rng):
        return image, peak_time, mask, targets
