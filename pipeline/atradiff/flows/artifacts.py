"""The tables and pictures of a flow run in Prefect's pages."""

from __future__ import annotations

from uuid import UUID

from prefect import get_client
from prefect.artifacts import Artifact
from prefect.client.schemas.actions import ArtifactUpdate


class Artifacts:
    """Each is made once and then changed in place, as it holds all that the ones before it held: Prefect keeps every artifact that is ever made, so its
    database would grow by all of the run's pictures at each evaluation."""

    def __init__(self) -> None:
        self._made = dict[str | None, UUID]()

    def show(self, artifact: Artifact) -> None:
        """Show it in place of the one that had its key before, in the flow run around."""
        if artifact.key in self._made:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._made[artifact.key], ArtifactUpdate(data=artifact.format()))
        else:
            self._made[artifact.key] = artifact.create().id  # pyright: ignore[reportAttributeAccessIssue] a coroutine only where a loop runs
