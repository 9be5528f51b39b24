"""What predictions say: confusions, honest probabilities, and how sure a difference is.

Import its modules themselves: `calibration` is quick to load, the others come with pandas.
"""
