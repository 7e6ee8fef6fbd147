"""Which network to choose: objectives, Pareto sets, strategies and the one loop that drives them."""
