"""The demo: three jobs, each as it is often written and as it is right, on real databases.

``jobs`` is written as a user's application; ``show`` judges it and prints what it sees.
"""
