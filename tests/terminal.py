"""A stand-in for a terminal."""

import io
import re


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def lines(self):
        """What a terminal shows: each line as it stands after its last carriage return, without colours."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue())
        shown = []
        for line in text.split("\n"):
            cells = []
            for part in line.split("\r"):
                cells[: len(part)] = part
            shown.append("".join(cells).rstrip())
        return shown
