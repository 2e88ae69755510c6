# UDP sockets.
