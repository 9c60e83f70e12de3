"""What runs in the environments of others, where idemfuzz is not installed: see `benchmarks.peers`."""
