"""``kmeshctl``: a client of the agents of a cluster."""
