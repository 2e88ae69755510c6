# A device written in Python, as a queue that a worker can use.
