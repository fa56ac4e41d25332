"""The SDK's fixtures."""

from tests.support.sdk import home, run

__all__ = ["home", "run"]
