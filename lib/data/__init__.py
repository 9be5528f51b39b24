"""Characters, whatever their source, behind one call: drawn, read from EMNIST, or a user's own.

Behind it: the generator, the readers, the clean-up of photographs, EMNIST's format, the cache.
"""

from lib.data.characters import CharacterData, capped, draw
from lib.data.load import data_of, load_data

__all__ = ["CharacterData", "capped", "data_of", "draw", "load_data"]
