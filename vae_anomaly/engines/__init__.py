"""Scoring on several processes or machines, by one of two engines: worker processes, or a Ray cluster.

No other package uses engines. Apart from the command line, only this one reads data, scores them and writes the result.
"""

ENGINES = ("processes", "ray")
