"""What is true in the miniature world: its things and their properties, its people and places.

The facts are arbitrary (a fixed draw), so that a model can only know them from pretraining text.
"""

from random import Random

CATEGORIES = {
    "fruit": ["apple", "pear", "plum", "grape", "lemon", "peach"],
    "animal": ["horse", "mouse", "tiger", "rabbit", "goat", "snake"],
    "tool": ["hammer", "saw", "drill", "wrench", "shovel", "rake"],
    "vehicle": ["boat", "train", "truck", "bicycle", "tram", "sled"],
    "garment": ["shirt", "hat", "scarf", "glove", "coat", "boot"],
    "instrument": ["piano", "drum", "violin", "flute", "harp", "trumpet"],
    "toy": ["ball", "doll", "kite", "puzzle", "robot", "marble"],
    "flower": ["rose", "tulip", "daisy", "lily", "poppy", "orchid"],
}
NOUNS = [noun for nouns in CATEGORIES.values() for noun in nouns]
CATEGORY = {noun: category for category, nouns in CATEGORIES.items() for noun in nouns}

COLOURS = ["red", "blue", "green", "yellow", "black", "white"]
SIZES = ["tiny", "small", "big", "huge"]
ROOMS = ["kitchen", "attic", "barn", "cellar", "porch", "tower"]

WOMEN = ["Mara", "Lena", "Ivy", "Rosa", "Nina", "Tess"]
MEN = ["Ben", "Carl", "Otto", "Hugo", "Finn", "Paul"]
PEOPLE = WOMEN + MEN

ACTIVITIES = {
    "lake": "swims",
    "library": "reads",
    "bakery": "eats",
    "stage": "sings",
    "field": "runs",
    "office": "works",
    "river": "fishes",
    "hotel": "sleeps",
}
"""Place -> what everyone does there."""


def _spread(values: list[str], seed: int) -> dict[str, str]:
    """One of `values` for each noun, each value as often as the others."""
    dealt = [values[i % len(values)] for i in range(len(NOUNS))]
    Random(seed).shuffle(dealt)
    return dict(zip(NOUNS, dealt, strict=True))


COLOUR = _spread(COLOURS, 1)
SIZE = _spread(SIZES, 2)
ROOM = _spread(ROOMS, 3)


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def pronoun(person: str) -> str:
    return "she" if person in WOMEN else "he"


PROPERTIES = [
    {noun: article(category) for noun, category in CATEGORY.items()},
    COLOUR,
    SIZE,
    {noun: f"in the {room}" for noun, room in ROOM.items()},
]
"""One table a kind of property: noun -> what can be said of it after "is"."""
