"""What a Space of this program is made of: an explicit list of files, two of them made for it.

No PyTorch here: a machine that only deploys needs the Hub's client and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2.errors import UserError
from gpt2.hub.names import SIZE_REPOSITORIES

ROOT = Path(__file__).parents[2]
PACKAGES = ("gpt2", "train", "service", "ui")
# Folders whose files of any kind belong to the program; elsewhere in a package only Python does.
DATA_FOLDERS = ("gpt2/vocabulary", "ui/assets", "models/storyteller")
SINGLE_FILES = ("app.py", "LICENSE", "gpt2/quality_text.txt")
# A Space has them in the versions that its platform was tested with.
_PLATFORMS_OWN = {"gradio", "spaces", "huggingface-hub"}
MODEL_VARIABLE = "GPT2_MODEL"  # what `app.py` starts with, where no --model is given


@dataclass(frozen=True)
class SpaceModel:
    """A model of the Hub that a Space starts with, and those of its files that a model needs."""

    repository: str
    files: Sequence[str]

    @property
    def preload(self) -> str:
        """In the Hub's notation: fetched while the Space is built, not while somebody waits."""
        return f"{self.repository} {','.join(self.files)}"


def space_files(model: SpaceModel | None = None) -> dict[str, bytes]:
    """Path in the Space -> content, in order: the program, the bundled model, the card and the
    requirements. Nothing else leaves this machine: no runs, no tests, nothing hidden."""
    found = {path: (ROOT / path).read_bytes() for path in sorted(_program_files())}
    made = {"README.md": space_card(model), "requirements.txt": space_requirements()}
    return found | {path: text.encode() for path, text in made.items()}


def _program_files() -> Iterator[str]:
    yield from SINGLE_FILES
    for package in PACKAGES:
        yield from _files_below(package, "*.py")
    for folder in DATA_FOLDERS:
        yield from _files_below(folder, "*")


def _files_below(folder: str, pattern: str) -> Iterator[str]:
    for path in (ROOT / folder).rglob(pattern):
        inside = path.relative_to(ROOT)
        hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield inside.as_posix()


def space_card(model: SpaceModel | None = None) -> str:
    """The README of a Space: the front matter of ours, and what its visitors want to know."""
    from huggingface_hub import SpaceCard

    card = SpaceCard((ROOT / "README.md").read_text(encoding="utf-8"))
    if model is not None:
        card.data.models = [model.repository]
        card.data.preload_from_hub = [model.preload]
    # Pictures and files that the text points to are not on the Space.
    introduction = card.text.partition("## Start")[0].partition("![")[0].strip()
    return f"---\n{card.data.to_yaml()}\n---\n\n{introduction}\n\n{_OWN_SPACE}"


_OWN_SPACE = """\
## One of your own

**Duplicate this Space**, in the menu above, and choose its hardware there: a copy is on CPU Basic
otherwise, which takes a PRO subscription; a free account has up to two Spaces on ZeroGPU. Variables
are copied, secrets are not.
"""


def space_requirements() -> str:
    """`requirements.txt` for a Space: what it does not bring itself, in the versions of
    `constraints.txt`.

    PyTorch stays the plain build, on a CPU too: ZeroGPU fails with one for CPUs, and whoever
    duplicates a Space may choose another hardware.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = _pins(_python_version())
    lines = []
    for line in _lines("requirements.txt"):
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        if name not in _PLATFORMS_OWN:
            lines.append(f"{name}{pins.get(name, wanted.specifier)}")
    return "\n".join(lines) + "\n"


def _pins(python: str) -> dict[str, str]:
    """Package -> "==version" for a Space's system."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    system = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    pins = map(Requirement, _lines("constraints.txt"))
    held = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(system)]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in held}


def _python_version() -> str:
    from huggingface_hub import SpaceCard

    card = SpaceCard((ROOT / "README.md").read_text(encoding="utf-8"))
    return str(card.data.python_version)


def _lines(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    lines = (line.partition(" #")[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def find_space_model(name: str, api) -> SpaceModel:
    """The model that a Space starts with: a size or a public "user/name" of the Hub, asked through
    `api`, a client without a token. `UserError` for what a Space could not read."""
    from huggingface_hub.errors import RepositoryNotFoundError

    from gpt2.hub.names import is_repository, known_repository

    repository = known_repository(name) or name
    if not is_repository(repository):
        sizes = ", ".join(SIZE_REPOSITORIES)
        raise UserError(
            f"A Space cannot have the model {name!r}: give a size ({sizes}), or push a model of "
            "your own and give its user/name."
        )
    try:
        held = [file.rfilename for file in api.model_info(repository).siblings or []]
    except RepositoryNotFoundError:
        raise UserError(
            f"There is no public model {repository} on the Hub. A Space reads it like any visitor: "
            "make it public first."
        ) from None
    return SpaceModel(repository, _needed(held, repository))


def _needed(held: Sequence[str], repository: str) -> list[str]:
    from fnmatch import fnmatch

    try:
        from gpt2.folder import MODEL_FILES
    except ImportError:
        raise UserError(
            "To deploy with --model, install what the program needs: "
            "pip install -r requirements.txt"
        ) from None
    files = [name for name in held if any(fnmatch(name, pattern) for pattern in MODEL_FILES)]
    if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
        raise UserError(f"{repository} has no config.json with model.safetensors: it is no model.")
    return files
