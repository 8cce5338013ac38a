"""Training for others: what a server needs around `train.loop`. `runs.Runs` is its one door."""
