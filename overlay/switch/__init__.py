"""The switch: networks, their ports and remotes, and the tables between them."""
