# The MAC table.
