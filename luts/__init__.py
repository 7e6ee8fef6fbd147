"""What was measured: the store of raw samples, and the latency tables read from it."""
