"""Collection of rollouts: environments and policy in step."""
