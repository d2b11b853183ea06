"""The figures of a report's page: each is an entry of `vae_anomaly.registry.FIGURES`, in the module of its section.

An entry takes the report and returns the figure with its words, or None if the report lacks what the figure needs. Its
name is the name of its file; the facts beside it are its section and its place there::

    @FIGURES.register("scores", section="scores", order=10)
    def scores(report: Report) -> CaptionedFigure | None:
"""
