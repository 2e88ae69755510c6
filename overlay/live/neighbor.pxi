# The table of ARP and ND suppression.
