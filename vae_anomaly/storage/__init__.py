"""Bytes on disk, safely: nothing here knows what a model means."""
