"""Many devices and machines behind one miner."""
