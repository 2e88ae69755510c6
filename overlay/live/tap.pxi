# TAP devices.
