"""Image files to samples: which files there are, what their headers say, and their pixels at one size and of one kind.

`files` finds them in a folder, with their classes, parts and masks; `survey` reads all headers, so that what does not
fit is reported before the first pixel is read; `pixels` decodes; `masks` loads what shows where a defect is.
"""
