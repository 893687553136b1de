"""The old place of `adapt`."""

from .live import adapt as adapt
