"""Source code: the file as it is, with its language in the metadata."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Reader, Unreadable, decoded

LANGUAGES = {
    "py": "python", "pyi": "python", "js": "javascript", "mjs": "javascript", "cjs": "javascript",
    "jsx": "javascript", "ts": "typescript", "tsx": "typescript", "java": "java", "kt": "kotlin",
    "kts": "kotlin", "scala": "scala", "go": "go", "rs": "rust", "c": "c", "h": "c", "cc": "cpp",
    "cpp": "cpp", "cxx": "cpp", "hpp": "cpp", "hh": "cpp", "cu": "cuda", "cs": "csharp",
    "fs": "fsharp", "swift": "swift", "m": "objective-c", "rb": "ruby", "php": "php", "pl": "perl",
    "lua": "lua", "r": "r", "jl": "julia", "dart": "dart", "ex": "elixir", "exs": "elixir",
    "erl": "erlang", "hs": "haskell", "ml": "ocaml", "clj": "clojure", "sh": "shell",
    "bash": "shell", "zsh": "shell", "ps1": "powershell", "sql": "sql", "proto": "protobuf",
    "graphql": "graphql", "tf": "terraform", "vue": "vue", "svelte": "svelte", "css": "css",
    "scss": "scss", "zig": "zig", "asm": "assembly", "s": "assembly", "f90": "fortran",
    "yaml": "yaml", "yml": "yaml", "toml": "toml", "ini": "ini", "cmake": "cmake",
}  # fmt: skip
NAMES = {"dockerfile": "dockerfile", "makefile": "make", "cmakelists.txt": "cmake"}


class CodeReader(Reader):
    """Indentation and line numbers stay; minified files are left out."""

    patterns: tuple[str, ...] = Field(
        (*(f"*.{each}" for each in LANGUAGES), "Dockerfile", "Makefile", "CMakeLists.txt"),
        min_length=1,
        description="File names that are source code.",
    )
    max_line: int = Field(
        5000,
        gt=0,
        description="A file with a longer line, in characters, was written by a program.",
    )

    def read(self, path: Path) -> Parsed:
        """The whole file."""
        text = decoded(path.read_bytes())
        longest = max(map(len, text.split("\n")))
        if longest > self.max_line:
            raise Unreadable("generated", f"a line of {longest} > {self.max_line} characters")
        name = path.name.lower()
        language = NAMES.get(name) or LANGUAGES.get(name.rpartition(".")[2], "")
        return Parsed(text, path.name, meta={"programming_language": language} if language else {})
