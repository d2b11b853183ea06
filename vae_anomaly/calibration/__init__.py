"""From scores of held-out normals to thresholds and p-values; NumPy and SciPy only.

`methods.calibrate` chooses a threshold by the name of a method, `conformal` has p-values and needs no SciPy to import,
`result.Calibration` is what a threshold comes with. Nothing is imported here: naming the methods, as ``--help`` does,
costs no NumPy.
"""
