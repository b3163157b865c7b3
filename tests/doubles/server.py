"""What the doubles stand on is part of the product: see `syncd.testing.server`."""

from syncd.testing.server import Asked, Double, Told

__all__ = ["Asked", "Double", "Told"]
