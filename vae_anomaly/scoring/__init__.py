"""From a fitted model and rows to named scores, and to what each feature contributes to them.

Free of torch, as long as none of its modules is imported.
"""

BLOCK_ROWS = 512
"""Rows that go through the networks at a time, fewer if they are wide. A row's score is the same to the bit only with
blocks of one size.
"""
