"""What a network will cost and how accurate it will be: `predictors.latency` and `predictors.accuracy`, each with `create` and `load`."""
