"""From a measured trace of the benchmark firmware to the numbers of a user's own target."""
