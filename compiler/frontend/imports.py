"""A spec with all the files it imports, found beside it and in the shipped library, and nowhere else.

Codes: E0201 no such file, E0202 outside the roots, E0203 a cycle, E0204 cannot be read, E0205 not text, E0206 too large,
E0207 too many files.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from dlc.compiler.errors import Diagnostic, DlcError
from dlc.compiler.frontend import ast
from dlc.compiler.frontend.lexer import MAX_CHARACTERS
from dlc.compiler.frontend.parser import parse
from dlc.compiler.source import SourceFile, Span

LIBRARY = Path(__file__).resolve().parents[2] / "specs"
SUFFIX = ".dlspec"
MAX_FILES = 100


@dataclass(frozen=True, eq=False)
class SpecFile:
    """One file: its text, its tree, and the file that each of its imports names."""

    path: Path
    source: SourceFile
    tree: ast.File
    imports: tuple[tuple[ast.Import, SpecFile], ...] = ()


@dataclass(frozen=True)
class Program:
    """A spec and what it imports: imported files before their importers, each once; the last is the one asked for."""

    files: tuple[SpecFile, ...]

    @property
    def main(self) -> SpecFile:
        """The file that was asked for."""
        return self.files[-1]


def load(path: str | Path, library_root: Path | None = None) -> Program:
    """The spec at `path` with its imports. Raises DlcError with all mistakes (E01…, E02…) of all files.

    An import is looked for in the folder of the importing file, then in `library_root` (default: the shipped specs). What
    it names must lie below the folder of `path` or below the library, symbolic links followed.
    """
    path = Path(path)
    source = read(path)
    loader = _Loader((_real(path.parent), _real(library_root or LIBRARY)))
    loader.load(_real(path), source)
    if loader.mistakes:
        raise DlcError(loader.mistakes)
    return Program(tuple(loader.done.values()))


def read(path: Path, span: Span | None = None) -> SourceFile:
    """The text of a file, with plain line ends. Raises DlcError (E0201, E0204 to E0206), at `span` for an import."""
    name = _shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DlcError.of("E0204", f"{name} is a folder", span=span, help=f"name the {SUFFIX} file in it")
        if not stat.S_ISREG(status.st_mode):
            raise DlcError.of("E0204", f"{name} is not a regular file", span=span)
        if status.st_size > 4 * MAX_CHARACTERS:
            raise _too_large(name, status.st_size, span)
        data = path.read_bytes()
    except FileNotFoundError:
        raise DlcError.of("E0201", f"there is no file {name}", span=span, help=_advice(name, Path())) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DlcError.of("E0204", f"cannot read {name}: {reason}", span=span) from None
    if b"\0" in data:
        raise DlcError.of("E0205", f"{name} is a binary file, not a spec", span=span)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{name} is not UTF-8 text: byte {data[error.start]:#04x} in line {line}"
        raise DlcError.of("E0205", message, span=span, help="save it as UTF-8") from None
    if len(text) > MAX_CHARACTERS:
        raise _too_large(name, len(data), span)
    return SourceFile(name, text.replace("\r\n", "\n").replace("\r", "\n"))


@dataclass
class _Loader:
    """Loads files depth first; `open` is the way from the main file to the one that is loaded now."""

    roots: tuple[Path, Path]
    done: dict[Path, SpecFile] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    open: list[Path] = field(default_factory=list)
    mistakes: list[Diagnostic] = field(default_factory=list)

    def load(self, path: Path, source: SourceFile) -> None:
        try:
            tree = parse(source)
        except DlcError as error:
            self.mistakes += error.diagnostics
            self.broken.add(path)
            return
        self.open.append(path)
        imports = []
        for statement in tree.items:
            if isinstance(statement, ast.Import):
                target = self._import(path, statement)
                if target is not None:
                    imports.append((statement, target))
        self.open.pop()
        self.done[path] = SpecFile(path, source, tree, tuple(imports))

    def _import(self, importer: Path, statement: ast.Import) -> SpecFile | None:
        """The file that an import names, loaded; None if it has mistakes, which are noted."""
        span = statement.path.span
        try:
            path = self._resolve(importer, statement.path.value, span)
            if path in self.open:
                way = " -> ".join(p.name for p in [*self.open[self.open.index(path) :], path])
                raise DlcError.of("E0203", f"import cycle: {way}", span=span)
            if path not in self.done and path not in self.broken:
                if len(self.done) + len(self.open) >= MAX_FILES:
                    raise DlcError.of("E0207", f"more than {MAX_FILES} files are imported", span=span)
                before = len(self.mistakes)
                self.load(path, read(path, span))
                self._add_importer(before, span)
        except DlcError as error:
            self.mistakes += error.diagnostics
            return None
        return self.done.get(path)

    def _add_importer(self, before: int, span: Span) -> None:
        """Say in the mistakes noted since `before` who imports the file they are in."""
        note = f"imported at {span}"
        self.mistakes[before:] = [replace(m, notes=(*m.notes, note)) for m in self.mistakes[before:]]

    def _resolve(self, importer: Path, text: str, span: Span) -> Path:
        """The real path that an import names. Raises DlcError (E0201, E0202)."""
        if not text or "\0" in text or len(text) > 1000:
            raise DlcError.of("E0201", "an import needs the path of a file", span=span)
        if Path(text).is_absolute() or text.startswith(("~", "\\")) or "://" in text or text[1:3] in (":\\", ":/"):
            help = "imports are relative to the importing file or to the shipped library"
            raise DlcError.of("E0202", f'"{text}" is not a relative path', span=span, help=help)
        outside = False
        for folder in (importer.parent, self.roots[1]):
            path = _real(folder / text)
            if not any(path.is_relative_to(root) for root in self.roots):
                outside = True
            elif _exists(path):
                if path.suffix != SUFFIX:
                    raise DlcError.of("E0201", f'"{text}" is not a {SUFFIX} file', span=span)
                return path
        if outside:
            help = "a spec imports files of its own folder (and below) and of the shipped library"
            raise DlcError.of("E0202", f'"{text}" lies outside the folders that may be read', span=span, help=help)
        help = _advice(text, importer.parent, self.roots[1])
        raise DlcError.of("E0201", f'there is no file "{text}" here or in the library', span=span, help=help)


def _advice(text: str, *folders: Path) -> str:
    """A did-you-mean among the specs near a path that does not exist, below the folders it was looked for in."""
    wanted, found = Path(text), list[str]()
    for folder in folders:
        try:
            here = {p.stem: p.name for p in (folder / wanted).parent.iterdir() if p.suffix == SUFFIX}
        except (OSError, ValueError):
            continue
        close = [here[stem] for stem in get_close_matches(wanted.stem, here, n=1) if here[stem] != wanted.name]
        found += [str(wanted.parent / name) for name in close if str(wanted.parent / name) not in found]
    return f"did you mean {' or '.join(found)}?" if found else ""


def _shown(path: Path) -> str:
    """The path as messages show it: relative to where the user stands if it is below."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):
        return str(path)
    return relative if path.is_absolute() and not relative.startswith("..") else str(path)


def _real(path: Path) -> Path:
    """The path without symbolic links and `..`; of loops and names that are too long only the text is cleaned."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return Path(os.path.abspath(path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _too_large(name: str, size: int, span: Span | None) -> DlcError:
    return DlcError.of(
        "E0206", f"{name} has {size:,} bytes; a spec has at most {MAX_CHARACTERS:,} characters", span=span
    )
