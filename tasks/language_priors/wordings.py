"""How each kind of `language_priors` is asked, in other words in each split: no wording is in two of them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Wordings:
    """The wordings of a split, with the fields of a case in braces."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


WORDINGS: Final[dict[str, Wordings]] = {
    "color": Wordings(
        train=(
            "What color is the {thing}?",
            "Which color does the {thing} have here?",
            "Tell me the color of the {thing} in the image.",
            "The {thing} in this picture, what color is it?",
            "Name the color of the {thing}.",
            "In which color is the {thing} drawn?",
        ),
        validation=("What is the color of the {thing} shown here?", "Look at the {thing}. Which color is it?"),
        test=("What color is the {thing} in the picture?", "What is the color of the {thing}?"),
    ),
    "parts": Wordings(
        train=(
            "How many {parts} does the {thing} have?",
            "Count the {parts} of the {thing}.",
            "What is the number of {parts} that the {thing} has here?",
            "The {thing} in this image has how many {parts}?",
            "Tell me how many {parts} you see on the {thing}.",
        ),
        validation=(
            "How many {parts} has the {thing} that is shown here?",
            "With how many {parts} is the {thing} drawn?",
        ),
        test=(
            "How many {parts} does the {thing} in the picture have?",
            "What is the number of {parts} of the {thing}?",
        ),
    ),
    "size": Wordings(
        train=(
            "Which is bigger, the {first} or the {second}?",
            "Is the {first} larger here, or the {second}?",
            "Which of the two is drawn larger: {first} or {second}?",
            "Between the {first} and the {second}, which one is bigger in this image?",
            "What takes up more room, the {first} or the {second}?",
        ),
        validation=(
            "Which one is the larger one here, the {first} or the {second}?",
            "Who is bigger: {first} or {second}?",
        ),
        test=(
            "Which is larger in the picture, the {first} or the {second}?",
            "What is bigger, the {first} or the {second}?",
        ),
    ),
    "sequence": Wordings(
        train=(
            "The cards go {row}. What is on the last card?",
            "Three cards show {row}. Which number is on the fourth?",
            "Read the cards: {row}, and then?",
            "After {row} comes one more card. Which number does it show?",
            "{row}: what is the next number on the cards?",
        ),
        validation=(
            "The first cards are {row}. What number is on the card after them?",
            "Which number follows {row} here?",
        ),
        test=(
            "The cards in the picture show {row}, and which number next?",
            "What number comes after {row} in the picture?",
        ),
    ),
    "alphabet": Wordings(
        train=(
            "The cards go {row}. What is on the last card?",
            "Three cards show {row}. Which letter is on the fourth?",
            "Read the cards: {row}, and then?",
            "After {row} comes one more card. Which letter does it show?",
            "{row}: what is the next letter on the cards?",
        ),
        validation=(
            "The first cards are {row}. What letter is on the card after them?",
            "Which letter follows {row} here?",
        ),
        test=(
            "The cards in the picture show {row}, and which letter next?",
            "What letter comes after {row} in the picture?",
        ),
    ),
    "sum": Wordings(
        train=(
            "What does the card say that {sum} is?",
            "Which number stands after the equals sign in {sum} = ?",
            "Somebody has written {sum} on the card. What is the result there?",
            "{sum} = what, on this card?",
            "Read the result of {sum}.",
        ),
        validation=("What has been written as the result of {sum}?", "How much is {sum} on this card?"),
        test=("What is {sum} in the picture?", "In the picture, {sum} = ?"),
    ),
    "ink": Wordings(
        train=(
            'What color is the word "{word}"?',
            'In which color is "{word}" written?',
            'Tell me the color of the letters of "{word}".',
            'The card says "{word}". What color are its letters?',
            'Which color was used to write "{word}"?',
        ),
        validation=('Name the color of the writing "{word}".', 'What color has the word "{word}" on the card?'),
        test=(
            'What color are the letters of the word "{word}"?',
            'What is the color of the word "{word}" in the picture?',
        ),
    ),
    "spelling": Wordings(
        train=(
            'What is the first letter of "{word}"?',
            'The card should say "{word}". What is its first letter?',
            'Somebody tried to write "{word}". Which letter is the first one?',
            'With which letter does "{word}" begin on this card?',
            'Read the first letter of the word "{word}".',
        ),
        validation=(
            'Which is the first letter where "{word}" is written?',
            'Look at "{word}". What is the first letter?',
        ),
        test=(
            'What is the first letter of the word "{word}" in the picture?',
            'With which letter does "{word}" begin in the picture?',
        ),
    ),
}
