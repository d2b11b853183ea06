"""Past one process and past one machine, on engines that exist: the only part of the library that knows of them.

Besides the command line, nothing else reads data, scores it and writes the result.
"""

ENGINES = ("processes", "ray")
