# The switch and its workers.
