"""Where frames and packets come from and go to.  Knows batches and errors, no protocol."""
