"""Training of supernets: image data, phases, recipes and the one loop that runs them."""
