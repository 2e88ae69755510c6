"""How fast the library is, against the least that the machine must do.

Not tests: nothing here passes or fails on a time.
"""
