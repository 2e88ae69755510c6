# A pair of queues in memory.
