"""Short questions about any picture of `language_priors`: what is where, in which color, and what is written."""

import random
from collections.abc import Callable
from typing import Final

from avar_eval.recipes.world.turns import DESCRIBE, Turn, at_once
from avar_eval.tasks.language_priors.counted import PARTS
from avar_eval.tasks.language_priors.drawing import COLORS
from avar_eval.tasks.language_priors.picture import CountedThing, Picture, Thing, Writing, article
from avar_eval.tasks.language_priors.things import FIGURES


def described(picture: Picture, rng: random.Random) -> Turn:
    """Its caption."""
    return Turn(rng.choice(DESCRIBE), picture.caption())


def asked_about(picture: Picture, rng: random.Random) -> Turn:
    """A random question about a picture; kinds that it has no answer for are passed over."""
    while True:
        if (turn := rng.choice(_KINDS)(picture, rng)) is not None:
            return turn


def _things(picture: Picture) -> list[Thing | CountedThing]:
    return [of for of in picture.elements if isinstance(of, Thing | CountedThing)]


def _writings(picture: Picture) -> list[Writing]:
    return [of for of in picture.elements if isinstance(of, Writing)]


def _color(picture: Picture, rng: random.Random) -> Turn | None:
    if not (things := _things(picture)):
        return None
    thing = rng.choice(things)
    wording = rng.choice(
        (
            "What color is the {}?",
            "Which color does the {} have here?",
            "Name the color of the {}.",
            "The {} is what color?",
        )
    )
    return at_once([wording.format(thing.name)], thing.color, rng)


def _name(picture: Picture, rng: random.Random) -> Turn | None:
    if not (things := _things(picture)):
        return None
    thing = rng.choice(things)
    if len(things) == 1:
        return at_once(
            [rng.choice(("What thing is this?", "What is drawn here?", "Name what you see."))], thing.name, rng
        )
    wording = rng.choice(("What is at the {}?", "Which thing do you see at the {}?", "Name the thing at the {}."))
    return at_once([wording.format(thing.place)], thing.name, rng)


def _where(picture: Picture, rng: random.Random) -> Turn | None:
    if not (things := _things(picture)):
        return None
    thing = rng.choice(things)
    wording = rng.choice(("Where is the {}?", "Where in the image do you see the {}?", "Find the {}."))
    return Turn(wording.format(thing.name), f"at the {thing.place}")


def _presence(picture: Picture, rng: random.Random) -> Turn | None:
    """As often yes as no."""
    there = [of.name for of in _things(picture)]
    if not there:
        return None
    answer = rng.random() < 0.5
    name = rng.choice(there if answer else [name for name in FIGURES if name not in there])
    wording = rng.choice(("Do you see {}?", "Does this image have {} in it?", "Can one see {} here?"))
    return at_once([wording.format(f"{article(name)} {name}")], "yes" if answer else "no", rng)


def _color_there(picture: Picture, rng: random.Random) -> Turn | None:
    """Whether a thing has a color: as often yes as no, whatever is usual."""
    if not (things := _things(picture)):
        return None
    thing = rng.choice(things)
    answer = rng.random() < 0.5
    color = thing.color if answer else rng.choice([color for color in COLORS if color != thing.color])
    wording = rng.choice(("Is the {} {}?", "Is the {} here of the color {}?", "The {} is {}. Is that right?"))
    return at_once([wording.format(thing.name, color)], "yes" if answer else "no", rng)


def _parts(picture: Picture, rng: random.Random) -> Turn | None:
    counted = [of for of in picture.elements if isinstance(of, CountedThing)]
    if not counted:
        return None
    parts = PARTS[counted[0].name][0]
    wording = rng.choice(("How many {} are drawn?", "Count the {}.", "How many {} do you see?"))
    return at_once([wording.format(parts)], str(counted[0].count), rng)


def _written(picture: Picture, rng: random.Random) -> Turn | None:
    if not (writings := _writings(picture)):
        return None
    if len(writings) == 1:
        wording = rng.choice(("What is written here?", "Read the card.", "What does the card say?"))
        return Turn(wording, writings[0].text)
    wording = rng.choice(("Read the cards.", "What is on the cards, from left to right?", "What do the cards show?"))
    return Turn(wording, ", ".join(of.text for of in writings))


def _one_card(picture: Picture, rng: random.Random) -> Turn | None:
    writings = _writings(picture)
    if len(writings) < 2:
        return None
    place = rng.randrange(len(writings))
    ordinal = ("first", "second", "third", "fourth")[place]
    wording = rng.choice(("What is on the {} card?", "What does the {} card show?", "Read the {} card."))
    return at_once([wording.format(ordinal)], writings[place].text, rng)


def _one_letter(picture: Picture, rng: random.Random) -> Turn | None:
    writings = _writings(picture)
    if len(writings) != 1 or not writings[0].text.isalpha():
        return None
    place = rng.randrange(len(writings[0].text))
    ordinal = ("first", "second", "third", "fourth", "fifth", "sixth")[place]
    wording = rng.choice(("What is the {} letter on the card?", "Which letter is the {} one?", "Read the {} letter."))
    return at_once([wording.format(ordinal)], writings[0].text[place], rng)


def _ink(picture: Picture, rng: random.Random) -> Turn | None:
    if not (writings := _writings(picture)):
        return None
    wording = rng.choice(
        ("In which color is it written?", "What color is the writing?", "Which color do the signs have?")
    )
    return at_once([wording], writings[0].color, rng)


_KINDS: Final[tuple[Callable[[Picture, random.Random], Turn | None], ...]] = (
    _color,
    _name,
    _where,
    _presence,
    _color_there,
    _parts,
    _parts,
    _written,
    _one_card,
    _one_letter,
    _ink,
)
