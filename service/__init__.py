"""Training for others: what a server needs around `train.trainer`. `runs.Runs` is its one door."""
