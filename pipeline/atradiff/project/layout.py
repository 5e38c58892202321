"""Where the artifacts of a task lie, below the folder that holds params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atradiff.errors import UserError

PARAMS_FILE = "params.yaml"


@dataclass(frozen=True)
class ModelFolder:
    """A trained model with its metrics and the curve of its loss."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def loss_curve(self) -> Path:
        return self.folder / "loss.svg"


@dataclass(frozen=True)
class Layout:
    """Paths of one task's artifacts."""

    root: Path
    task: str

    @property
    def params(self) -> Path:
        return self.root / PARAMS_FILE

    @property
    def data(self) -> Path:
        return self.root / "data" / self.task

    @property
    def dataset(self) -> Path:
        """What is known of the Minari dataset: id, fingerprint, sizes and recipe."""
        return self.data / "dataset.json"

    @property
    def store(self) -> Path:
        return self.data / "store.zarr"

    def denoiser(self, horizon: int) -> ModelFolder:
        return ModelFolder(self.data / "denoisers" / str(horizon))

    @property
    def length_estimator(self) -> ModelFolder:
        return ModelFolder(self.data / "length-estimator")

    @property
    def reward_model(self) -> ModelFolder:
        return ModelFolder(self.data / "reward-model")

    @property
    def synthesis_metrics(self) -> Path:
        return self.data / "synthesis" / "metrics.json"

    @property
    def synthesis_picture(self) -> Path:
        return self.data / "synthesis" / "imagined.svg"


def find_root(start: Path) -> Path:
    """The nearest folder with a params.yaml, from `start` upwards."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / PARAMS_FILE).is_file():
            return folder
    raise UserError(f"no {PARAMS_FILE} in {start} or above: go to the project's folder, a clone of the repository; `atradiff use TASK` writes one there")
