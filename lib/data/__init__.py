"""Characters, whatever their source, behind one call: drawn from strokes, read from EMNIST or a folder.

Behind it: the generator, the readers, what classes are called, EMNIST's image format, the cache.
"""

from lib.data.load import CharacterData, capped, data_of, draw, load_data

__all__ = ["CharacterData", "capped", "data_of", "draw", "load_data"]
