"""Which kernels a change can reach."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from places import ROOT

from .cpp import blanked, chunks
from .mutants import mutants
from .numba_code import device_functions

KERNELS = ROOT / "kernels"

COMMON = ("include/", "shared/")
"""Folders of what several families include."""


@dataclass(frozen=True)
class Sources:
    """The texts of all files of `kernels/` at one moment, so that later edits do not interfere."""

    texts: dict[str, str]

    @classmethod
    def read(cls, folder: Path = KERNELS) -> Sources:
        """The files below a folder that kernels for GPUs are made of."""
        files = [*folder.glob("*/*.py"), *folder.glob("*/*.cu"), *folder.glob("*/*.cuh")]
        return cls({p.relative_to(folder).as_posix(): p.read_text() for p in sorted(files)})

    def mutable(self) -> list[str]:
        """The files with code for GPUs."""
        names = (n for n in self.texts if n.endswith((".cuh", "_cuda.cu", "_numba.py")))
        return [n for n in names if any(True for _ in mutants(n, self.texts[n]))]

    def included(self, file: str) -> set[str]:
        """The files that a file includes, and those that they include, and itself."""
        done, waiting = set(), [file]
        while waiting:
            name = waiting.pop()
            if name in done or name not in self.texts:
                continue
            done.add(name)
            text = self.texts[name]
            if name.endswith(".py"):
                waiting.append(name.replace("_cuda.py", "_cuda.cu"))
                waiting += [f"shared/{m}.py" for m in re.findall(r"^from \.+(?:shared\.)?(\w+) import", text, re.M)]
                waiting += [f"shared/{m}" for m in re.findall(r'"(\w+_cuda\.cu)"', text)]
            else:
                waiting += [f"include/{m}" for m in re.findall(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', text, re.M)]
        return done

    def users(self, file: str) -> list[str]:
        """The kernel files (.py) that a change of the file may break, the smallest first."""
        if not file.startswith(COMMON):
            return [file.replace(".cu", ".py")]
        own = [n for n in self.texts if n.endswith(("_cuda.py", "_numba.py")) and not n.startswith(COMMON)]
        users = [n for n in own if file in self.included(n)]
        return sorted(users, key=lambda n: sum(len(self.texts[i]) for i in self.included(n)))

    def entries(self, user: str, function: str) -> set[str]:
        """The functions of a kernel file, and of what it includes, that call `function` in the end;
        itself too."""
        words: dict[str, set[str]] = {}
        for file in self.included(user):
            text = self.texts[file]
            if file.endswith(".py"):
                for f in device_functions(ast.parse(text)):
                    words.setdefault(f.name, set()).update(re.findall(r"\w+", ast.unparse(f)))
            else:
                code, behind = blanked(text), 0
                for name, _, end in chunks(code):
                    words.setdefault(name, set()).update(re.findall(r"\w+", code[behind:end]))
                    behind = end
        reached, before = {function}, 0
        while len(reached) > before:
            before = len(reached)
            reached |= {name for name, used in words.items() if used & reached}
        return reached
