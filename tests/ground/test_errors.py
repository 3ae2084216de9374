"""Text of unknown origin cannot control a terminal, wherever it is printed."""

import pytest

from gpucnn.errors import DataError, FileError, one_line, printable

HOSTILE = "a\x1b[31mb\nc\rd\x9b2Je\u202ef\u2028g\udcffh"


@pytest.mark.parametrize("kind", [DataError, FileError])
def test_an_error_shows_no_control_characters_of_what_it_quotes(kind):
    assert str(kind(f"{HOSTILE} is damaged")) == "a [31mb\nc d 2Je f g h is damaged"


def test_letters_of_every_language_and_symbols_stay():
    text = "Äpfel, 猫, кошка, 👩‍🔬, a\u0301, 5 µm × 3 → ½"
    assert printable(text) == str(DataError(text)) == text


def test_one_line_is_short_and_printable():
    assert one_line(HOSTILE) == "a [31mb c d 2Je f g h"
    assert one_line("x" * 999) == "x" * 300 + "…"
    assert one_line("") == "''"
    assert one_line(None) == "None"
