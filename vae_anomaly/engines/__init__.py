"""Scoring on several processes or machines, by engines that exist: worker processes, or a Ray cluster.

Only this package knows of engines, and beside the command line only it reads data, scores them and writes the result.
"""

ENGINES = ("processes", "ray")
