"""Arrays and results to figures, tables and pages; no model is known here.

Names are imported on first use, as ``__init__.pyi`` lists them: drawing one figure loads no templates.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
