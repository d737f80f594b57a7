"""What a hand-off says to the backend's developers, in words and for machines; each engine writes its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from watchme.core.interfaces import Table
from watchme.export.table_text import markdown_table


class HandoffText(ABC):
    """The texts of one export."""

    env_file: ClassVar[str]  # the file that the settings class of the backend reads for this engine

    @abstractmethod
    def env(self) -> dict[str, str]:
        """Fields of the backend's settings class for these weights; it refuses fields that it does not have."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """How an image becomes the network's input, and what its output means: preprocessing.json."""

    @abstractmethod
    def mind(self) -> list[str]:
        """What the backend's developers must know before they use the weights, a paragraph each."""

    @abstractmethod
    def differences(self) -> list[str]:
        """Where the backend, unchanged, computes something else than the run did, and what to change."""

    @abstractmethod
    def sections(self) -> dict[str, str]:
        """Further sections of the README by title."""

    @abstractmethod
    def checked_on(self) -> str:
        """One sentence for the model card: what was exported, and on which images it was checked."""

    def notes(self) -> list[str]:
        """What must be known, the differences last and in bold."""
        return self.mind() + [f"**{text}**" for text in self.differences()]

    def card_section(self, tables: Sequence[Table]) -> str:
        """The model card's section on the export."""
        return f"\n## Export\n\n{self.checked_on()}\n" + "".join(f"\n{markdown_table(table)}\n" for table in tables)


def input_entry(name: str, height: int, width: int) -> Mapping[str, Any]:
    """The entry `input` of preprocessing.json."""
    return {"name": name, "shape": ["batch", 3, height, width], "dtype": "float32", "colours": "RGB"}
