"""Mutations of the good configs of a classifier and a detector pair, by class, and their endings.

A mutation sets keys of a config, by their dotted names; a value that is a function makes a file
first. It ends in a training, or in a message that has certain parts.
"""

from tests.stress.mutations.case import TRAINS, Case, check
from tests.stress.mutations.files import CHECKPOINTS, DATA, WRONG_PATHS
from tests.stress.mutations.networks import SWAPPED, UNKNOWN_NAMES, WRONG_SHAPES
from tests.stress.mutations.settings import EMPTY, MISSING_KEYS, NUMBERS, WRONG_TYPES

CLASSES_OF_MUTATIONS = {
    'wrong types': WRONG_TYPES,
    'missing keys': MISSING_KEYS,
    'wrong paths': WRONG_PATHS,
    'wrong shapes': WRONG_SHAPES,
    'numbers': NUMBERS,
    'empty': EMPTY,
    'swapped and duplicate': SWAPPED,
    'unknown names': UNKNOWN_NAMES,
    'checkpoints': CHECKPOINTS,
    'data': DATA,
}
CASES = {
    f'{kind}: {name}': case
    for kind, cases in CLASSES_OF_MUTATIONS.items()
    for name, case in cases.items()
}

__all__ = ['CASES', 'TRAINS', 'Case', 'check']
