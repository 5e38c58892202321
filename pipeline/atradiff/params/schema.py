"""The sections of params.yaml. Every number is a field of a component's config, where its meaning and its range stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Gt, Le, Lt
from typing_extensions import Doc

from atradiff.agents.actor_critic import AgentConfig
from atradiff.data.collect import CollectConfig
from atradiff.data.environment import EnvironmentConfig
from atradiff.data.hindsight import HindsightConfig
from atradiff.diffusion.backbone import NetworkConfig
from atradiff.diffusion.denoiser import NoiseConfig
from atradiff.diffusion.preconditioner import PreconditionerConfig
from atradiff.diffusion.training import TrainConfig
from atradiff.online.adaptation import AdaptationConfig
from atradiff.online.offline import OfflineConfig
from atradiff.online.plan import OnlineConfig
from atradiff.replay.mixed import ReplayConfig
from atradiff.synthesis.length_estimator import EstimatorNetworkConfig
from atradiff.synthesis.synthesizer import SynthesisConfig


@dataclass(frozen=True)
class DatasetParams:
    """The offline data."""

    id: Annotated[str, Doc("Minari id of the offline dataset; collected or downloaded where it is not on this machine.")] = "local/pointmaze/umaze-v0"
    mixed_with: Annotated[list[str], Doc("Further Minari datasets for the same store; task.environment.task_id tells them apart.")] = field(
        default_factory=list[str]
    )
    share: Annotated[float, Gt(0), Le(1), Doc("Share of its episodes that is used, drawn at random; smaller shares are parts of larger ones.")] = 1.0
    held_out_share: Annotated[float, Gt(0), Lt(1), Doc("Share of the episodes kept from training, to measure on.")] = 0.05


@dataclass(frozen=True)
class TaskParams:
    """What is to be learned, and from which data."""

    name: Annotated[str, Doc("Name of the task; its stages write under data/NAME.")] = "pointmaze-umaze"
    dataset: DatasetParams = field(default_factory=DatasetParams)
    collect: CollectConfig = field(default_factory=CollectConfig)
    hindsight: HindsightConfig = field(default_factory=HindsightConfig)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)


@dataclass(frozen=True)
class DenoiserParams:
    """The denoisers: one for each horizon, each its own DVC stage."""

    horizons: Annotated[list[int], Doc("Rows of the windows, ascending; one denoiser is trained for each.")] = field(default_factory=lambda: [32, 64, 128])
    network: NetworkConfig = field(default_factory=NetworkConfig)
    preconditioner: PreconditionerConfig = field(default_factory=PreconditionerConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class LengthEstimatorParams:
    """The length estimator, its own DVC stage."""

    network: EstimatorNetworkConfig = field(default_factory=EstimatorNetworkConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(gradient_steps=3_000, batch_size=256))


@dataclass(frozen=True)
class ControlParams:
    """The control, arm rlpd: the same agent, with offline data in place of imagination."""

    offline_ratio: Annotated[float, Gt(0), Le(1), Doc("Share of every batch that is offline.")] = 0.5
    offline_goals: Annotated[
        Literal["own", "task"],
        Doc("Under which goals: own, as recorded; or the task at hand, with rewards as for imagined steps (synthesis.reward, which cannot be generated then)."),
    ] = "own"
    imitation_filter: Annotated[bool, Doc("Imitate only offline actions that the critics hold for better than the actor's own.")] = False


@dataclass(frozen=True)
class Params:
    """All of params.yaml."""

    task: TaskParams = field(default_factory=TaskParams)
    denoiser: DenoiserParams = field(default_factory=DenoiserParams)
    length_estimator: LengthEstimatorParams = field(default_factory=LengthEstimatorParams)
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    offline: OfflineConfig = field(default_factory=OfflineConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    control: ControlParams = field(default_factory=ControlParams)
    online: OnlineConfig = field(default_factory=OnlineConfig)
