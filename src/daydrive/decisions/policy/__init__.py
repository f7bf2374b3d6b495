"""Policies: a small network from images to actions, learned inside a world model."""

from daydrive.decisions.policy.driver import PolicyDriver
from daydrive.decisions.policy.network import Policy, PolicyInfo, load_policy

__all__ = ["Policy", "PolicyDriver", "PolicyInfo", "load_policy"]
