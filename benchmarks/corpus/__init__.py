"""Everything that `benchmarks.campaigns` fuzzes: the planted bugs and right jobs of the tests, and the example shop's, on SQLite."""
