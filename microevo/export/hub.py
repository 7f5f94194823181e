"""Models on the Hugging Face Hub, by huggingface_hub's own mixin; needs the extra `export`."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download

from microevo.export.card import model_card
from microevo.models import load_model
from microevo.models.checkpoint import read_checkpoint
from microevo.models.folder import write_folder
from microevo.provenance import write_file


class HubModel(ModelHubMixin):
    """A trained network that `push_to_hub` and `save_pretrained` write as a model folder, and `from_pretrained` reads.

    `HubModel.from_pretrained("group/name").forecaster` is what `load_model` makes of the folder: no code is read from it.

    Args:
        path: A model folder, whose card is kept, or a checkpoint.

    Attributes:
        forecaster: The network.
        checkpoint: What it was read from.
        card: Text of the model card.
    """

    def __init__(self, path: str | Path) -> None:
        self.forecaster, self.checkpoint = load_model(path), read_checkpoint(path)
        card = Path(path) / "README.md"
        self.card = card.read_text() if card.is_file() else model_card(self.checkpoint)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(self.checkpoint, save_directory)
        write_file(save_directory / "README.md", self.card)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubModel":
        return cls(model_id if Path(model_id).is_dir() else snapshot_download(model_id, **options))
