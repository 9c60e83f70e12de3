"""Right jobs: on every store that a job here applies to, idemfuzz must find nothing wrong with it."""
