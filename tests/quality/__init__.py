"""Planted bugs: jobs that are wrong in ways that people really write, each with the finding that it must give."""
