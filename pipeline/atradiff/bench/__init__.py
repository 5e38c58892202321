"""How fast the parts are, beside peers doing the same work and beside the floor that the machine sets."""
