"""Datasets made for a test, as `atradiff collect` makes them."""

from __future__ import annotations

from atradiff.data.collect import CollectConfig, Report, collect, collecting_environment
from atradiff.data.environment import EnvironmentConfig
from atradiff.data.skill import scripted_controller


def make(dataset_id: str, environment: EnvironmentConfig, config: CollectConfig, report: Report = lambda n, note: None) -> None:
    """Let the scripted controller, or whoever acts at random, collect."""
    acting = collecting_environment(environment)
    controller = scripted_controller(acting, config)
    assert controller is not None
    collect(dataset_id, acting, controller, config, report)
    acting.close()
