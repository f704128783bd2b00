"""A miner of the Bittensor quantum-compute subnet (netuid 48)."""

__version__ = "0.1.0"
